/* sign: signatures that outside services ask for, by OpenSSL's libcrypto.
 *
 *     uint8_t sig[SIGN_BYTES_MAX];
 *     size_t n;
 *     TRY(sign_rs256(pem, STR("header.claims"), sig, &n));     // RFC 7518, 3.3
 *
 * Errors: ERR_INVALID (not a private RSA key in PEM); no error text holds any part of a key.
 */
#ifndef KITH_NET_SIGN_H
#define KITH_NET_SIGN_H

#include "base/base.h"

#define SIGN_BYTES_MAX 1024 /* an RSA key of 8,192 bits */

/* RSASSA-PKCS1-v1_5 with SHA-256. */
MUST_USE err sign_rs256(str pem, str text, uint8_t out[SIGN_BYTES_MAX], size_t *size);

#endif
