/* sign: a signature that OpenSSL's own verifier takes, and keys that are none. */
#include "net/sign.h"

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void signs_as_openssl_verifies(void **state) {
    (void)state;
    EVP_PKEY *key = EVP_RSA_gen(2048);
    BIO *b = BIO_new(BIO_s_mem());
    char *pem;
    assert_int_equal(PEM_write_bio_PrivateKey(b, key, NULL, NULL, 0, NULL, NULL), 1);
    long n = BIO_get_mem_data(b, &pem);
    uint8_t sig[SIGN_BYTES_MAX];
    size_t size;
    str text = STR("header.claims");
    assert_int_equal(sign_rs256(str_from(pem, (size_t)n), text, sig, &size), OK);
    assert_int_equal(size, 256);
    EVP_MD_CTX *c = EVP_MD_CTX_new();
    const unsigned char *t = (const unsigned char *)text.ptr;
    assert_int_equal(EVP_DigestVerifyInit(c, NULL, EVP_sha256(), NULL, key), 1);
    assert_int_equal(EVP_DigestVerify(c, sig, size, t, text.len), 1);
    sig[7] ^= 1;
    assert_int_equal(EVP_DigestVerifyInit(c, NULL, EVP_sha256(), NULL, key), 1);
    assert_int_not_equal(EVP_DigestVerify(c, sig, size, t, text.len), 1);
    EVP_MD_CTX_free(c);
    assert_int_equal(sign_rs256(STR("no key"), text, sig, &size), ERR_INVALID);
    assert_int_equal(sign_rs256(str_from(pem, (size_t)n / 2), text, sig, &size), ERR_INVALID);
    assert_int_equal(sign_rs256(STR(""), text, sig, &size), ERR_INVALID);
    BIO_free(b);
    EVP_PKEY_free(key);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(signs_as_openssl_verifies),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
