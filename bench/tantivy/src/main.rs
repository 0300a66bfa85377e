//! tantivy-bench TERMS QUERIES REPEAT DIR: Tantivy on the words bench of kith, called natively.
//!
//! TERMS has a document a line, its terms divided by spaces; QUERIES a query a line, AND when the line begins with
//! "+", else OR. The index is made in DIR by one thread and merged to one segment (the best that Tantivy can be); then
//! each query's best of REPEAT runs counts, in CPU time of this thread, the query object being made beforehand.
//! Prints one JSON object as bench_index_lexical does. bench/words.py builds and runs it.
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;

use tantivy::collector::TopDocs;
use tantivy::query::{BooleanQuery, Occur, Query, TermQuery};
use tantivy::schema::{Field, IndexRecordOption, Schema, TextFieldIndexing, TextOptions};
use tantivy::tokenizer::WhitespaceTokenizer;
use tantivy::{Index, IndexWriter, Searcher, TantivyDocument, Term};

type Fault = Box<dyn std::error::Error>;

fn now_us(clock: libc::clockid_t) -> f64 {
    let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: t is a valid place for the answer.
    unsafe { libc::clock_gettime(clock, &mut t) };
    t.tv_sec as f64 * 1e6 + t.tv_nsec as f64 / 1e3
}

fn lines(path: &str) -> Result<impl Iterator<Item = String>, Fault> {
    Ok(BufReader::new(File::open(path)?).lines().map_while(|line| line.ok()))
}

fn schema() -> (Schema, Field) {
    let indexing = TextFieldIndexing::default()
        .set_tokenizer("whitespace")
        .set_index_option(IndexRecordOption::WithFreqs);
    let mut builder = Schema::builder();
    let field = builder.add_text_field("t", TextOptions::default().set_indexing_options(indexing));
    (builder.build(), field)
}

fn build(terms: &str, dir: &str) -> Result<(Index, Field, usize), Fault> {
    let (schema, field) = schema();
    let index = Index::create_in_dir(dir, schema)?;
    index.tokenizers().register("whitespace", WhitespaceTokenizer::default());
    let mut writer: IndexWriter = index.writer_with_num_threads(1, 500_000_000)?;
    let mut docs = 0;
    for line in lines(terms)? {
        let mut doc = TantivyDocument::default();
        doc.add_text(field, line);
        writer.add_document(doc)?;
        docs += 1;
    }
    writer.commit()?;
    let segments = index.searchable_segment_ids()?;
    if segments.len() > 1 {
        writer.merge(&segments).wait()?;
    }
    writer.wait_merging_threads()?;
    Ok((index, field, docs))
}

fn parse(line: &str, field: Field) -> (usize, &'static str, BooleanQuery) {
    let all = line.starts_with('+');
    let occur = if all { Occur::Must } else { Occur::Should };
    let words: Vec<(Occur, Box<dyn Query>)> = line
        .trim_start_matches('+')
        .split_whitespace()
        .map(|word| {
            let query = TermQuery::new(Term::from_field_text(field, word), IndexRecordOption::WithFreqs);
            (occur, Box::new(query) as Box<dyn Query>)
        })
        .collect();
    (words.len(), if all { "and" } else { "or" }, BooleanQuery::new(words))
}

fn best_of(searcher: &Searcher, query: &dyn Query, repeat: usize) -> Result<f64, Fault> {
    let mut best = f64::INFINITY;
    for _ in 0..repeat {
        let from = now_us(libc::CLOCK_THREAD_CPUTIME_ID);
        let hits = searcher.search(query, &TopDocs::with_limit(10).order_by_score())?;
        best = best.min(now_us(libc::CLOCK_THREAD_CPUTIME_ID) - from);
        std::hint::black_box(hits);
    }
    Ok(best)
}

fn bytes_of(dir: &str, ending: &str) -> Result<u64, Fault> {
    let mut sum = 0;
    for entry in Path::new(dir).read_dir()? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().ends_with(ending) {
            sum += entry.metadata()?.len();
        }
    }
    Ok(sum)
}

fn main() -> Result<(), Fault> {
    let args: Vec<String> = std::env::args().collect();
    if args.len() != 5 {
        return Err("usage: tantivy-bench TERMS QUERIES REPEAT DIR".into());
    }
    let repeat: usize = args[3].parse()?;
    let from = now_us(libc::CLOCK_PROCESS_CPUTIME_ID);
    let (index, field, docs) = build(&args[1], &args[4])?;
    let build_us = now_us(libc::CLOCK_PROCESS_CPUTIME_ID) - from;
    let searcher = index.reader()?.searcher();
    let mut times: BTreeMap<(usize, &str), Vec<f64>> = BTreeMap::new();
    for line in lines(&args[2])? {
        let (words, mode, query) = parse(&line, field);
        let us = best_of(&searcher, &query, repeat)?;
        times.entry((words, mode)).or_default().push(us);
    }
    let out = &mut std::io::stdout().lock();
    writeln!(out, "{{\"docs\": {docs}, \"build_s\": {:.2},", build_us / 1e6)?;
    writeln!(out, " \"segments\": {},", searcher.segment_readers().len())?;
    writeln!(out, " \"postings_bytes\": {},", bytes_of(&args[4], ".idx")?)?;
    writeln!(out, " \"dictionary_bytes\": {}, \"queries\": [", bytes_of(&args[4], ".term")?)?;
    for ((words, mode), us) in &mut times {
        us.sort_by(f64::total_cmp);
        let (n, sum) = (us.len(), us.iter().sum::<f64>());
        write!(out, "  {{\"words\": {words}, \"mode\": \"{mode}\", \"queries\": {n}, \"p50_us\": {:.2},", us[n / 2])?;
        writeln!(out, " \"p99_us\": {:.2}, \"mean_us\": {:.2}}},", us[n * 99 / 100], sum / n as f64)?;
    }
    writeln!(out, "  null]}}")?;
    Ok(())
}
