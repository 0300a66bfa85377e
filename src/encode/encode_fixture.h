/* Written by tests/encode_fixture.py: what the reference gives for the tiny model of
 * encode_test.c. */
#ifndef KITH_ENCODE_FIXTURE_H
#define KITH_ENCODE_FIXTURE_H

#define FIXTURE_HIDDEN    20
#define FIXTURE_HEADS     2
#define FIXTURE_LAYERS    2
#define FIXTURE_INNER     36
#define FIXTURE_POSITIONS 24
#define FIXTURE_TYPES     2
#define FIXTURE_LONGEST   16
#define FIXTURE_WORDS     40
#define FIXTURE_TEXTS     5

static const char fixture_vocabulary[] = "[PAD]\n"
                                         "[UNK]\n"
                                         "[CLS]\n"
                                         "[SEP]\n"
                                         "[MASK]\n"
                                         "hello\n"
                                         "world\n"
                                         "##s\n"
                                         "un\n"
                                         "##believ\n"
                                         "##able\n"
                                         "!\n"
                                         ",\n"
                                         ".\n"
                                         "'\n"
                                         "[\n"
                                         "]\n"
                                         "#\n"
                                         "\xe4\xb8\xad\n"
                                         "\xe6\x96\x87\n"
                                         "\xe3\x83\x84\n"
                                         "cafe\n"
                                         "\xc3\x9f\n"
                                         "stra\n"
                                         "##\xc3\x9f"
                                         "e\n"
                                         "a\n"
                                         "##a\n"
                                         "i\n"
                                         "##i\n"
                                         "\xd0\xb8\n"
                                         "##\xd0\xb8\n"
                                         "\xe1\x84\x92\n"
                                         "##\xe1\x85\xa1\n"
                                         "##\xe1\x86\xab\n"
                                         "1\n"
                                         "##2\n"
                                         "##3\n"
                                         "\xe2\x82\xac\n"
                                         "\xcf\x83\n"
                                         "##\xcf\x83\n";

typedef struct fixture_text {
    str text;
    size_t count;
    uint32_t ids[16];
} fixture_text;

static const fixture_text fixture_texts[] = {
    {STR_INIT("hello world"), 4, {2, 5, 6, 3}},
    {STR_INIT("Hello, WORLDS! unbelievable"), 10, {2, 5, 12, 6, 7, 11, 8, 9, 10, 3}},
    {STR_INIT(""), 2, {2, 3}},
    {STR_INIT("caf\xc3\xa9 \xe4\xb8\xad\xe6\x96\x87 stra\xc3\x9f"
              "e 123"),
     10,
     {2, 21, 18, 19, 23, 24, 34, 35, 36, 3}},
    {STR_INIT("zzz"), 3, {2, 1, 3}},
    {STR_INIT("un[SEP]hello [sep] [MASK]"), 9, {2, 8, 3, 5, 15, 1, 16, 4, 3}},
    {STR_INIT("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
              "aaaaaaaaaaaaaaaa"),
     16,
     {2, 25, 26, 26, 26, 26, 26, 26, 26, 26, 26, 26, 26, 26, 26, 3}},
    {STR_INIT("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
              "aaaaaaaaaaaaaaaaa"),
     3,
     {2, 1, 3}},
    {STR_INIT("a\xcc\x81"
              "a\xcc\x80 A\xcc\x8a"),
     5,
     {2, 25, 26, 25, 3}},
    {STR_INIT("\xc4\xb0I\xc4\xb1"), 3, {2, 1, 3}},
    {STR_INIT("hello\x00world hel\xc2\xadlo"), 4, {2, 1, 5, 3}},
    {STR_INIT("\xd0\x99 \xd0\xb8\xcc\x86"), 4, {2, 29, 29, 3}},
    {STR_INIT("\xed\x95\x9c \xe1\x84\x92\xe1\x85\xa1\xe1\x86\xab"),
     8,
     {2, 31, 32, 33, 31, 32, 33, 3}},
    {STR_INIT("a\xc2\xa0"
              "a\xe3\x80\x80"
              "a\xe2\x80\xa8"
              "a\x09"
              "a\x0a"
              "a\x0d"
              "a"),
     9,
     {2, 25, 25, 25, 25, 25, 25, 25, 3}},
    {STR_INIT("\xce\xa3\xcf\x82\xcf\x83"), 3, {2, 1, 3}},
    {STR_INIT("\xef\xac\x81 \xe2\x85\xa7 \xc2\xbd"), 5, {2, 1, 1, 1, 3}},
    {STR_INIT("\xf0\x9f\x98\x80 a\xf0\x9f\x98\x80"), 4, {2, 1, 1, 3}},
    {STR_INIT("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa a a a a a a a a a a a a a a a a a a a a a "
              "a a a a a a a a a a a a a a a a a a a"),
     16,
     {2, 25, 26, 26, 26, 26, 26, 26, 26, 26, 26, 26, 26, 26, 26, 3}},
    {STR_INIT("\xe2\x82\xac"
              "1"),
     3,
     {2, 1, 3}},
    {STR_INIT("\xef\xa4\x80\xe4\xb8\xad"), 4, {2, 1, 18, 3}},
    {STR_INIT("hello\xef\xbf\xbdworld"), 3, {2, 1, 3}},
    {STR_INIT("\xcd\xbe ; \xe1\xbf\xaf"), 5, {2, 1, 1, 1, 3}},
    {STR_INIT("world\xe2\x80\x8bs world\xe2\x81\xa0s"), 6, {2, 6, 7, 6, 7, 3}},
    {STR_INIT("\xee\x80\x80"
              "a"),
     3,
     {2, 25, 3}},
    {STR_INIT("#a##a"), 7, {2, 17, 25, 17, 17, 25, 3}},
    {STR_INIT("\xe4\xb8\xad"
              "a\xe4\xb8\xad"),
     5,
     {2, 18, 25, 18, 3}},
};

static const float fixture_means[FIXTURE_TEXTS][FIXTURE_HIDDEN] = {
    {-0.517270f, -0.039389f, -0.288999f, 0.033899f,  0.055769f,  0.285469f,  0.269997f,
     -0.225267f, 0.399914f,  -0.031609f, 0.153643f,  -0.056314f, -0.239922f, -0.233803f,
     0.026847f,  -0.138536f, 0.146380f,  -0.109258f, 0.284681f,  -0.060905f},
    {-0.506493f, 0.139875f,  -0.041997f, 0.045514f, 0.090895f, -0.019193f, 0.173080f,
     -0.269673f, 0.392306f,  0.157537f,  0.014192f, 0.074247f, -0.041074f, -0.287635f,
     0.057755f,  -0.282861f, 0.228777f,  0.179258f, 0.220266f, -0.351513f},
    {-0.309541f, -0.265638f, -0.070291f, -0.045323f, -0.011776f, 0.233000f,  0.325862f,
     0.127118f,  0.264973f,  -0.207798f, 0.202752f,  0.033506f,  -0.003244f, -0.185503f,
     -0.411264f, -0.248191f, -0.044625f, 0.165736f,  0.377711f,  -0.238636f},
    {-0.439628f, 0.163367f,  0.149548f,  -0.074602f, -0.016012f, 0.279514f,  0.193537f,
     -0.247213f, 0.304292f,  -0.066878f, 0.180670f,  0.009772f,  -0.017281f, -0.127511f,
     -0.100014f, -0.158020f, -0.070310f, 0.187429f,  0.286628f,  -0.521143f},
    {-0.522260f, -0.044138f, -0.233263f, -0.044237f, 0.001601f,  0.251540f,  0.370490f,
     -0.297845f, 0.363307f,  -0.181435f, 0.118317f,  -0.112015f, -0.076957f, -0.097301f,
     -0.073801f, -0.102852f, 0.095032f,  0.070445f,  0.367611f,  -0.087609f},
};

static const float fixture_firsts[FIXTURE_TEXTS][FIXTURE_HIDDEN] = {
    {-0.477495f, -0.125649f, -0.317027f, 0.055191f,  0.140978f, -0.011891f, 0.228462f,
     -0.034207f, 0.504047f,  -0.161689f, -0.161043f, 0.187977f, 0.070419f,  -0.183126f,
     -0.061794f, -0.265784f, 0.320906f,  0.133638f,  0.061169f, -0.016311f},
    {-0.468417f, -0.024567f, -0.200097f, 0.061552f,  0.084205f, -0.127318f, 0.145110f,
     -0.138016f, 0.466507f,  -0.021651f, -0.153425f, 0.236120f, 0.058296f,  -0.106013f,
     0.078854f,  -0.403995f, 0.263210f,  0.298374f,  0.075129f, -0.165354f},
    {-0.301811f, -0.277450f, -0.113324f, -0.076040f, 0.048347f, 0.166998f, 0.227010f,
     0.141747f,  0.457830f,  -0.161135f, -0.002820f, 0.182193f, 0.174050f, -0.171766f,
     -0.428642f, -0.339436f, 0.118475f,  0.187869f,  0.141172f, -0.121131f},
    {-0.406827f, -0.020680f, -0.115527f, -0.126720f, -0.003019f, -0.072985f, 0.163056f,
     -0.073872f, 0.452361f,  0.061107f,  -0.107614f, 0.358394f,  0.233930f,  -0.138417f,
     -0.087758f, -0.418672f, 0.141811f,  0.271562f,  0.164470f,  -0.202759f},
    {-0.489855f, -0.166416f, -0.234260f, -0.031806f, 0.105851f, 0.019086f, 0.313100f,
     -0.056992f, 0.494148f,  -0.236150f, -0.136431f, 0.085059f, 0.089647f, -0.151522f,
     -0.127035f, -0.222922f, 0.291539f,  0.169118f,  0.162407f, 0.031825f},
};

#endif
