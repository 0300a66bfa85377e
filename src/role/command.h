/* The commands of `kith`. Each gets the words behind its name and returns the exit code: 0 done,
 * 1 failed, 2 called wrongly.
 */
#ifndef KITH_ROLE_COMMAND_H
#define KITH_ROLE_COMMAND_H

int command_serve(int argc, char **argv);
int command_import(int argc, char **argv);
int command_search(int argc, char **argv);
int command_similar(int argc, char **argv);
int command_post(int argc, char **argv);
int command_delete(int argc, char **argv);
int command_status(int argc, char **argv);
int command_verify(int argc, char **argv);
int command_eval(int argc, char **argv);
int command_bench(int argc, char **argv);
int command_embed(int argc, char **argv);
int command_space(int argc, char **argv);
int command_model(int argc, char **argv);
int command_key(int argc, char **argv);
int command_backup(int argc, char **argv);
int command_restore(int argc, char **argv);
int command_drill(int argc, char **argv);
int command_erase(int argc, char **argv);
int command_export(int argc, char **argv);
int command_audit(int argc, char **argv);
int command_top(int argc, char **argv);
int command_trace(int argc, char **argv);

#endif
