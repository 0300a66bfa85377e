/* WebAssembly has no setjmp; the tests include its header for cmocka only. */
