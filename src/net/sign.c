/* RS256 through EVP, the only interface that OpenSSL 3 does not deprecate. The key is read anew for
 * each signature: one an hour is made, and so nothing secret stays in memory.
 */
#include "net/sign.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>

static err sign_with(EVP_PKEY *key, str text, uint8_t *out, size_t *size) {
    EVP_MD_CTX *c = EVP_MD_CTX_new();
    *size = SIGN_BYTES_MAX;
    bool good = c && EVP_PKEY_is_a(key, "RSA") && EVP_PKEY_get_size(key) <= SIGN_BYTES_MAX &&
                EVP_DigestSignInit(c, NULL, EVP_sha256(), NULL, key) == 1 &&
                EVP_DigestSign(c, out, size, (const unsigned char *)text.ptr, text.len) == 1;
    EVP_MD_CTX_free(c);
    return good ? OK : err_set(ERR_INVALID, "the private key cannot sign RS256");
}

err sign_rs256(str pem, str text, uint8_t out[SIGN_BYTES_MAX], size_t *size) {
    *size = 0;
    if (pem.len > 64 * KIB) return err_set(ERR_INVALID, "the private key is no PEM");
    BIO *b = BIO_new_mem_buf(pem.ptr, (int)pem.len);
    EVP_PKEY *key = b ? PEM_read_bio_PrivateKey(b, NULL, NULL, (void *)(uintptr_t) "") : NULL;
    err rc = key ? sign_with(key, text, out, size)
                 : err_set(ERR_INVALID, "the private key is no PEM of an RSA key");
    EVP_PKEY_free(key);
    BIO_free(b);
    ERR_clear_error();
    return rc;
}
