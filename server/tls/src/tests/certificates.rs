//! Certificates from files, and the one that is made.

use std::os::unix::fs::PermissionsExt;

use super::super::certificate;
use super::*;

fn in_directory(data: &std::path::Path, domain: &str) -> Settings {
    Settings { self_signed: data.join("tls"), domain: domain.to_owned(), ..Settings::default() }
}

#[test]
fn each_kind_of_key_is_read() {
    for (certificate, key) in
        [("rsa.pem", "rsa-pkcs1.key"), ("rsa.pem", "rsa-pkcs8.key"), ("ec.pem", "ec-sec1.key")]
    {
        let settings = files(pem(certificate), pem(key));
        let accepted = Acceptor::new(&settings).map(drop);
        assert!(accepted.is_ok(), "{key}: {accepted:?}");
    }
}

#[test]
fn each_mistake_names_the_file_and_the_reason() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path
    };
    let empty = file("empty.pem", "");
    let text = file("text.pem", "certificate\n");
    let cut = file("cut.pem", "-----BEGIN CERTIFICATE-----\nMIIB\n");
    let no_base64 = file("wrong.pem", "-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n");
    let no_der = file("der.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    let no_key = file("bad.key", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n");
    let huge = file("huge.pem", &"x".repeat((1 << 20) + 1));
    let missing = directory.path().join("missing.pem");
    let (good, key, other_key) = (pem("ec.pem"), pem("ec-sec1.key"), pem("rsa-pkcs1.key"));
    let (p521_sec1, p521_pkcs8) = (pem("p521-sec1.key"), pem("p521-pkcs8.key"));
    let folder = directory.path().to_owned();
    let table = [
        (&missing, &key, "missing.pem", "No such file"),
        (&good, &missing, "missing.pem", "No such file"),
        (&folder, &key, folder.to_str().unwrap(), "directory"),
        (&empty, &key, "empty.pem", "no certificate in it"),
        (&text, &key, "text.pem", "no certificate in it"),
        (&key, &key, "ec-sec1.key", "no certificate in it"),
        (&cut, &key, "cut.pem", "damaged"),
        (&no_base64, &key, "wrong.pem", "damaged"),
        (&no_der, &key, "der.pem", "not X.509"),
        (&huge, &key, "huge.pem", "more than 1048576 bytes"),
        (&good, &empty, "empty.pem", "no private key in it"),
        (&good, &text, "text.pem", "no private key in it"),
        (&good, &no_key, "bad.key", "cannot be used"),
        (&good, &other_key, "rsa-pkcs1.key", "does not belong to the certificate"),
        (
            &good,
            &p521_sec1,
            "p521-sec1.key",
            "the curve P-521, with which this server cannot sign; use ECDSA P-256",
        ),
        (&good, &p521_pkcs8, "p521-pkcs8.key", "the curve P-521"),
    ];
    for (certificate, key, name, reason) in table {
        let settings = files(certificate.clone(), key.clone());
        let error = Acceptor::new(&settings).map(drop).unwrap_err().to_string();
        assert!(error.contains(name) && error.contains(reason), "{name}, {reason}: {error}");
        assert_eq!(certificate::facts(&settings).unwrap_err().to_string(), error);
    }
}

#[test]
fn a_private_key_that_others_may_use_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let key = directory.path().join("own.key");
    std::fs::copy(pem("ec-sec1.key"), &key).unwrap();
    let mut settings = files(pem("ec.pem"), key.clone());
    let good = Acceptor::new(&settings).unwrap();
    for (mode, group_readable, refusal) in [
        (0o600, false, ""),
        (0o400, false, ""),
        (0o640, true, ""),
        (0o440, true, ""),
        (0o640, false, "its group may read it; run: chmod 600"),
        (0o640, false, "tls.key_group_readable"),
        (0o660, true, "its group may change it; run: chmod 640"),
        (0o644, true, "everybody may use it; run: chmod 640"),
        (0o604, false, "everybody may use it; run: chmod 600"),
        (0o602, false, "everybody may use it"),
        (0o666, false, "mode 666"),
    ] {
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(mode)).unwrap();
        settings.key_group_readable = group_readable;
        let found = Acceptor::new(&settings).map(drop).map_err(|error| error.to_string());
        let reloaded = good.reload(&settings).map_err(|error| error.to_string());
        let checked = certificate::facts(&settings).map(drop).map_err(|error| error.to_string());
        assert_eq!((&found, &found), (&reloaded, &checked), "{mode:o}");
        match refusal {
            "" => assert_eq!(found, Ok(()), "{mode:o}"),
            text => assert!(found.unwrap_err().contains(text), "{mode:o}: {text}"),
        }
    }
}

#[test]
fn the_self_signed_certificate_is_the_same_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let settings = in_directory(directory.path(), "localhost");
    assert_eq!(certificate::facts(&settings).unwrap(), None, "asking makes none");
    let files = ["tls/self-signed.pem", "tls/self-signed.key"].map(|name| directory.path().join(name));
    let read = || files.clone().map(|path| std::fs::read(path).unwrap());

    let acceptor = Acceptor::new(&settings).unwrap();
    let first = read();
    for path in &files {
        assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600, "{path:?}");
    }
    let mut pair = Pair::of(&acceptor, client(SUITES[0].0, &files[0], &[]));
    pair.talk().unwrap();
    assert!(pair.tls.is_established());

    Acceptor::new(&settings).unwrap().reload(&settings).unwrap();
    assert!(read() == first, "it was made anew");
    let facts = certificate::facts(&settings).unwrap().unwrap();
    assert_eq!(facts.names, ["localhost", "127.0.0.1", "::1"]);
    assert!(facts.self_signed && facts.chain == 1);
    let years = (facts.not_after - facts.not_before) / (365 * 24 * 3600);
    assert_eq!(years, 10);
    let now = facts.not_before + 48 * 3600;
    assert_eq!(facts.complaints("localhost", now), Vec::<String>::new());

    for (domain, names) in
        [("a.example", "a.example"), ("bücher.example", "xn--bcher-kva.example"), ("[::1]", "::1")]
    {
        let settings = in_directory(directory.path(), domain);
        let before = read();
        Acceptor::new(&settings).unwrap();
        let made = read();
        assert!(made != before, "{domain}: another domain needs another certificate");
        Acceptor::new(&settings).unwrap();
        assert!(read() == made, "{domain}: it was made anew");
        assert_eq!(certificate::facts(&settings).unwrap().unwrap().names, [names]);
    }
}

#[test]
fn half_a_pair_or_a_damaged_one_is_made_anew() {
    let directory = tempfile::tempdir().unwrap();
    let settings = in_directory(directory.path(), "localhost");
    let path = |name: &str| directory.path().join("tls").join(name);
    Acceptor::new(&settings).unwrap();
    type Damage = fn(&std::path::Path);
    let damages: [(&str, Damage); 4] = [
        ("self-signed.pem", |path| std::fs::remove_file(path).unwrap()),
        ("self-signed.key", |path| std::fs::remove_file(path).unwrap()),
        ("self-signed.pem", |path| std::fs::write(path, "").unwrap()),
        ("self-signed.key", |path| assert!(std::fs::copy(pem("ec-sec1.key"), path).is_ok())),
    ];
    for (name, damage) in damages {
        damage(&path(name));
        std::fs::write(path("self-signed.pem.new"), "left over").unwrap();
        let accepted = Acceptor::new(&settings).map(drop);
        assert!(accepted.is_ok(), "{name}: {accepted:?}");
        certificate::facts(&settings).unwrap().expect("there is one again");
    }
    assert_eq!(std::fs::read_dir(directory.path().join("tls")).unwrap().count(), 2, "nothing is left over");
}

#[test]
fn what_is_wrong_with_a_certificate_is_said() {
    let facts = |names: &[&str], not_before, not_after| certificate::CertificateFacts {
        path: "c.pem".into(),
        names: names.iter().map(|name| (*name).to_owned()).collect(),
        not_before,
        not_after,
        self_signed: false,
        chain: 2,
    };
    const DAY: i64 = 24 * 3600;
    let table = [
        (facts(&["a.example"], 0, 100 * DAY), "a.example", ""),
        (facts(&["A.example", "b.example"], 0, 100 * DAY), "a.EXAMPLE", ""),
        (facts(&["*.example"], 0, 100 * DAY), "a.example", ""),
        (facts(&["*.example"], 0, 100 * DAY), "b.a.example", "is for *.example, not for b.a.example"),
        (facts(&["*.example"], 0, 100 * DAY), "example", "is for *.example"),
        (facts(&["a.example"], 0, 49 * DAY), "a.example", "has expired"),
        (facts(&["a.example"], 0, 53 * DAY), "a.example", "expires in 3 days"),
        (facts(&["a.example"], 51 * DAY, 100 * DAY), "a.example", "not valid yet"),
    ];
    for (facts, domain, expected) in table {
        let complaints = facts.complaints(domain, 50 * DAY).join("; ");
        assert_eq!(complaints.is_empty(), expected.is_empty(), "{domain}: {complaints}");
        assert!(complaints.contains(expected), "{domain}: {complaints}");
    }
}

#[test]
fn the_facts_of_a_real_certificate() {
    let facts = certificate::facts(&settings(false)).unwrap().unwrap();
    assert_eq!(facts.names, ["localhost", "*.localhost"]);
    assert!(facts.self_signed && facts.covers("chat.localhost") && !facts.covers("a.chat.localhost"));
    assert!(facts.not_after > 4_000_000_000, "it is valid for a hundred years: {}", facts.not_after);
}
