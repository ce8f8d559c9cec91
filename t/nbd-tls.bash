# Keys and certificates for the tests of NBD over TLS: ca (the authority), good,
# old (expired), other (of another authority), and keys.psk.
tls_setup() {
	command -v certtool >/dev/null || skip "certtool is not installed"
	command -v psktool >/dev/null || skip "psktool is not installed"
	T="$BATS_FILE_TMPDIR/tls"
	[ -d "$T" ] && return
	mkdir -p "$T/good" "$T/old" "$T/other" "$T/nocert" "$T/psk" "$T/psk2"
	(
	cd "$T"
	authority good ours
	authority other theirs
	cp good/ca-* old
	for d in good old other; do
		for e in server client; do certificate $d $e; done
	done
	cp good/ca-cert.pem nocert
	psktool -u qemu -p psk/keys.psk
	psktool -u alice -p psk/keys.psk
	psktool -u qemu -p psk2/keys.psk
	) >"$BATS_FILE_TMPDIR/certtool.log" 2>&1
}

authority() {
	printf '%s\n' "cn = $2" ca cert_signing_key "expiration_days = 10" >t
	certtool --generate-privkey --key-type ed25519 --outfile $1/ca-key.pem
	certtool --generate-self-signed --load-privkey $1/ca-key.pem \
		--template t --outfile $1/ca-cert.pem
}

certificate() {
	printf '%s\n' "cn = $2.example" "organization = Example" signing_key \
		"tls_www_$2" "dns_name = localhost" "ip_address = 127.0.0.1" >t
	if [ $1 = old ]; then
		printf '%s\n' 'activation_date = "2020-01-01 00:00:00 UTC"' \
			'expiration_date = "2020-02-01 00:00:00 UTC"' >>t
	else
		echo "expiration_days = 10" >>t
	fi
	certtool --generate-privkey --key-type ed25519 --outfile $1/$2-key.pem
	certtool --generate-certificate --load-privkey $1/$2-key.pem \
		--load-ca-certificate $1/ca-cert.pem --load-ca-privkey $1/ca-key.pem \
		--template t --outfile $1/$2-cert.pem
}
