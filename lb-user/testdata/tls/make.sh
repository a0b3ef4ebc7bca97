#!/bin/sh
# Makes the files of this folder anew: what `lb-user/src/proxy/tls` is tested with, so that the tests need no openssl.
# Needs OpenSSL 3 with its legacy provider. The keys protect nothing. Certificates are valid for 100 years.
set -eu
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -r "$work"' EXIT

authority() { # NAME SUBJECT [ISSUER]
    openssl ecparam -name prime256v1 -genkey -noout -out "$work/$1.key"
    openssl req -new -key "$work/$1.key" -subj "$2" -out "$work/$1.csr"
    printf 'basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n' >"$work/$1.ext"
    if [ $# -eq 2 ]; then
        openssl x509 -req -in "$work/$1.csr" -key "$work/$1.key" -days 36500 -extfile "$work/$1.ext" -out "$work/$1.crt"
    else
        openssl x509 -req -in "$work/$1.csr" -CA "$work/$3.crt" -CAkey "$work/$3.key" -set_serial 2 -days 36500 \
            -extfile "$work/$1.ext" -out "$work/$1.crt"
    fi
}
authority root "/O=Example/CN=Test Root"
authority issuing "/O=Example/CN=Test Issuing CA" root
authority unrelated "/O=Elsewhere/CN=Unrelated"

openssl genrsa -out "$work/site.pkcs8" 2048
openssl req -new -key "$work/site.pkcs8" -subj "/O=Example/CN=mail.example.test" -out "$work/site.csr"
printf 'subjectAltName=DNS:mail.example.test,DNS:*.example.test,IP:192.168.50.8\nauthorityKeyIdentifier=keyid\n' >"$work/site.ext"
openssl x509 -req -in "$work/site.csr" -CA "$work/issuing.crt" -CAkey "$work/issuing.key" -set_serial 0x5172 -days 36500 \
    -extfile "$work/site.ext" -out "$work/site.crt"

openssl x509 -req -in "$work/site.csr" -key "$work/site.pkcs8" -days 36500 -out version1.crt
openssl x509 -in version1.crt -noout -text | grep -q 'Version: 1'

cp "$work/site.crt" site.crt
cp "$work/issuing.crt" issuing.crt
cp "$work/root.crt" root.crt
cp "$work/unrelated.crt" unrelated.crt
cp "$work/site.pkcs8" site.pkcs8.key
openssl rsa -traditional -in "$work/site.pkcs8" -out site.pkcs1.key
openssl pkcs8 -topk8 -in "$work/site.pkcs8" -passout pass:secret -out site.encrypted.key
openssl rsa -traditional -aes128 -in "$work/site.pkcs8" -passout pass:secret -out site.traditional-encrypted.key
openssl ecparam -name secp384r1 -genkey -noout -out ec.sec1.key
openssl req -x509 -new -key ec.sec1.key -subj "/CN=ec.example.test" -days 36500 -out ec.crt

# As Windows exports: RC2-40 and TripleDES up to Server 2016, TripleDES-SHA1 and AES256-SHA256 by choice since. -LMK and -CSP
# write the attributes that Windows does; the certificates' order is theirs.
cat "$work/root.crt" "$work/issuing.crt" "$work/unrelated.crt" >"$work/others"
export_as() { # FILE PASSWORD OPTIONS...
    file=$1 password=$2
    shift 2
    openssl pkcs12 -export -in "$work/site.crt" -inkey "$work/site.pkcs8" -certfile "$work/others" -name mail \
        -LMK -CSP "Microsoft RSA SChannel Cryptographic Provider" -passout "pass:$password" -out "$file" "$@"
}
export_as rc2-40.pfx secret -legacy
export_as rc2-40-empty.pfx "" -legacy
export_as tripledes-sha1.pfx secret -legacy -keypbe PBE-SHA1-3DES -certpbe PBE-SHA1-3DES -macalg sha1
export_as aes256-sha256.pfx 'pässwörd' -keypbe AES-256-CBC -certpbe AES-256-CBC -macalg sha256
export_as aes256-sha256-empty.pfx "" -keypbe AES-256-CBC -certpbe AES-256-CBC -macalg sha256
export_as unencrypted.pfx secret -keypbe NONE -certpbe NONE
export_as without-mac.pfx secret -nomac
export_as slow.pfx secret -iter 2000000
openssl pkcs12 -export -nokeys -in "$work/site.crt" -passout pass:secret -out without-key.pfx
openssl pkcs12 -export -nocerts -inkey "$work/site.pkcs8" -passout pass:secret -out without-certificate.pfx

# Two OCSP responses of the issuing CA: one good until 2126, one revoked.
index() { printf '%s\t21260101000000Z\t%s\t5172\tunknown\t/O=Example/CN=mail.example.test\n' "$1" "$2" >"$work/index"; }
answer() { # FILE
    openssl ocsp -index "$work/index" -CA "$work/issuing.crt" -issuer "$work/issuing.crt" -cert "$work/site.crt" \
        -rsigner "$work/issuing.crt" -rkey "$work/issuing.key" -ndays 36500 -respout "$1" -no_nonce
}
index V ""
answer good.ocsp
index R 260101000000Z
answer revoked.ocsp
