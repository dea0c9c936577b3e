//! Clients that break the protocol.

use rustls::AlertDescription;

use super::super::record::{QUIET_RECORDS_MAX, Records};
use super::*;

const MODES: [(Version, Suite); 6] = [
    (Version::Tls13, Suite::Aes128Gcm),
    (Version::Tls13, Suite::Aes256Gcm),
    (Version::Tls13, Suite::ChaCha20Poly1305),
    (Version::Tls12, Suite::Aes128Gcm),
    (Version::Tls12, Suite::Aes256Gcm),
    (Version::Tls12, Suite::ChaCha20Poly1305),
];

#[test]
fn a_changed_bit_anywhere_ends_the_connection_with_an_alert() {
    for (version, suite) in MODES {
        let (mut client, _) = mirrored(version, suite, 0);
        let mut good = Vec::new();
        client.seal(b"<presence/>", &mut good).unwrap();
        for at in 0..good.len() {
            let mut wire = good.clone();
            wire[at] ^= 0x10;
            let (mut client, mut server) = mirrored(version, suite, 0);
            let (mut plain, mut answer) = (Vec::new(), Vec::new());
            let error = match server.open(&wire, &mut plain, &mut answer) {
                Err(error) => error,
                // A longer record is waited for; what fills it up makes it forged.
                Ok(_) => server.open(&[0; 20_000], &mut plain, &mut answer).unwrap_err(),
            };
            assert!(plain.is_empty(), "{version:?} {suite:?}: byte {at} gave out data");
            let TlsError::Record { alert, .. } = error else { panic!("byte {at}: {error}") };
            if at > 4 {
                assert_eq!(alert, AlertDescription::BadRecordMac, "{version:?} {suite:?}: byte {at}");
            }
            let told = client.open(&answer, &mut plain, &mut Vec::new()).unwrap_err();
            assert!(matches!(told, TlsError::Alert(told) if told == alert), "byte {at}: {told}");
            let after = answer.len();
            assert!(matches!(server.open(&good, &mut plain, &mut answer), Err(TlsError::NotOpen)));
            assert!(matches!(server.seal(b"x", &mut answer), Err(TlsError::NotOpen)));
            server.close_notify(&mut answer);
            assert_eq!(answer.len(), after, "nothing is sent after a fatal alert");
        }
    }
}

#[test]
fn a_real_client_understands_the_alert() {
    for of in SUITES {
        let mut pair = Pair::connected(of);
        pair.client.writer().write_all(b"<presence/>").unwrap();
        let mut wire = pair.take_from_client();
        *wire.last_mut().unwrap() ^= 1;
        pair.give(&wire).unwrap_err();
        assert_eq!(pair.alert_at_client(), Some(AlertDescription::BadRecordMac), "{of:?}");
        assert!(pair.plain.is_empty());
    }
}

/// What a server says to bytes that no honest client sends after its handshake.
fn refusal(server: &mut Records, wire: &[u8]) -> AlertDescription {
    let (mut plain, mut answer) = (Vec::new(), Vec::new());
    match server.open(wire, &mut plain, &mut answer) {
        Err(TlsError::Record { alert, .. }) => alert,
        other => panic!("{other:?}"),
    }
}

#[test]
fn records_that_have_no_place_are_refused() {
    use AlertDescription::{BadRecordMac, ProtocolVersion, RecordOverflow, UnexpectedMessage};
    let table: [(&str, Version, &[u8], AlertDescription); 9] = [
        (
            "plaintext data",
            Version::Tls13,
            &[23, 3, 3, 0, 17, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            BadRecordMac,
        ),
        ("change cipher spec", Version::Tls13, &[20, 3, 3, 0, 1, 1], UnexpectedMessage),
        ("a plaintext alert", Version::Tls13, &[21, 3, 3, 0, 2, 2, 40], UnexpectedMessage),
        ("an unknown type", Version::Tls13, &[99, 3, 3, 0, 1, 0], UnexpectedMessage),
        ("too long by its header", Version::Tls13, &[23, 3, 3, 0x41, 0x01], RecordOverflow),
        ("too long by its header", Version::Tls12, &[23, 3, 3, 0x48, 0x01], RecordOverflow),
        ("too short for a nonce", Version::Tls12, &[23, 3, 3, 0, 7, 0, 0, 0, 0, 0, 0, 0], BadRecordMac),
        ("an empty one", Version::Tls13, &[23, 3, 3, 0, 0], BadRecordMac),
        ("another version", Version::Tls12, &[23, 3, 1, 0, 0], ProtocolVersion),
    ];
    for (what, version, wire, expected) in table {
        let (_, mut server) = mirrored(version, Suite::Aes128Gcm, 0);
        assert_eq!(refusal(&mut server, wire), expected, "{what} in {version:?}");
    }
}

#[test]
fn what_a_client_may_say_after_its_handshake() {
    use AlertDescription::{DecodeError, IllegalParameter, UnexpectedMessage};
    const HANDSHAKE: u8 = 22;
    const ALERT: u8 = 21;
    // Type, body, and the alert it is refused with.
    type Case = (Version, u8, &'static [u8], Option<AlertDescription>);
    let table: [Case; 17] = [
        (Version::Tls13, HANDSHAKE, &[24, 0, 0, 1, 0], None),
        (Version::Tls13, HANDSHAKE, &[24, 0, 0, 1, 1], None),
        (Version::Tls13, HANDSHAKE, &[24, 0, 0], None),
        (Version::Tls13, HANDSHAKE, &[24, 0, 0, 1, 2], Some(IllegalParameter)),
        (Version::Tls13, HANDSHAKE, &[24, 0, 0, 0, 0], Some(DecodeError)),
        (Version::Tls13, HANDSHAKE, &[24, 0, 0, 1, 0, 24], Some(UnexpectedMessage)),
        (Version::Tls13, HANDSHAKE, &[1, 0, 0, 1, 0], Some(UnexpectedMessage)),
        (Version::Tls13, HANDSHAKE, &[4, 0, 0, 1, 0, 0, 0], Some(UnexpectedMessage)),
        (Version::Tls13, HANDSHAKE, &[], Some(UnexpectedMessage)),
        (Version::Tls13, 20, &[1], Some(UnexpectedMessage)),
        (Version::Tls13, ALERT, &[1], Some(DecodeError)),
        (Version::Tls13, ALERT, &[1, 90], None),
        (Version::Tls12, ALERT, &[1, 90], None),
        (Version::Tls12, HANDSHAKE, &[24, 0, 0, 1, 0], Some(UnexpectedMessage)),
        (Version::Tls12, HANDSHAKE, &[16, 0, 0, 1, 0], Some(UnexpectedMessage)),
        (Version::Tls12, HANDSHAKE, &[1, 0, 0, 1, 0], None),
        (Version::Tls12, 20, &[1], Some(UnexpectedMessage)),
    ];
    for (version, kind, body, expected) in table {
        let (mut client, mut server) = mirrored(version, Suite::Aes256Gcm, 0);
        let mut wire = Vec::new();
        client.write_any(kind, body, &mut wire);
        match expected {
            Some(alert) => assert_eq!(refusal(&mut server, &wire), alert, "{version:?} {kind} {body:?}"),
            None => {
                let opened = server.open(&wire, &mut Vec::new(), &mut Vec::new());
                assert!(matches!(opened, Ok(false)), "{version:?} {kind} {body:?}: {opened:?}");
            }
        }
    }
}

#[test]
fn renegotiation_is_refused_with_a_warning() {
    let (mut client, mut server) = mirrored(Version::Tls12, Suite::Aes128Gcm, 0);
    let (mut wire, mut answer, mut plain) = (Vec::new(), Vec::new(), Vec::new());
    client.write_any(22, &[1, 0, 0, 1, 0], &mut wire);
    server.open(&wire, &mut plain, &mut answer).unwrap();
    let body = client.open_any(&answer);
    assert_eq!(body, (21, vec![1, 100]), "warning, no_renegotiation");
}

#[test]
fn fatal_alerts_end_and_warnings_do_not() {
    for (version, level, code, ends) in [
        (Version::Tls13, 2, 80, true),
        (Version::Tls13, 1, 80, true),
        (Version::Tls12, 2, 80, true),
        (Version::Tls12, 1, 80, false),
    ] {
        let (mut client, mut server) = mirrored(version, Suite::Aes128Gcm, 0);
        let (mut wire, mut answer) = (Vec::new(), Vec::new());
        client.write_any(21, &[level, code], &mut wire);
        let opened = server.open(&wire, &mut Vec::new(), &mut answer);
        assert_eq!(matches!(opened, Err(TlsError::Alert(_))), ends, "{version:?} {level}: {opened:?}");
        assert!(answer.is_empty(), "an alert is not answered with one");
    }
}

#[test]
fn records_without_data_are_borne_for_a_while() {
    for (version, suite) in MODES {
        let (mut client, mut server) = mirrored(version, suite, 0);
        let (mut plain, mut answer) = (Vec::new(), Vec::new());
        let mut say = |body: &[u8]| {
            let mut wire = Vec::new();
            client.write_any(23, body, &mut wire);
            server.open(&wire, &mut plain, &mut answer)
        };
        for _ in 0..2 {
            for _ in 0..QUIET_RECORDS_MAX {
                say(b"").unwrap();
            }
            say(b"data").unwrap();
        }
        for _ in 0..QUIET_RECORDS_MAX {
            say(b"").unwrap();
        }
        assert!(matches!(say(b""), Err(TlsError::Record { .. })), "{version:?} {suite:?}");
        assert_eq!(plain, b"datadata");
    }
}

#[test]
fn a_record_that_holds_too_much_is_refused() {
    for (version, suite) in MODES {
        let (mut client, mut server) = mirrored(version, suite, 0);
        let (mut wire, mut plain) = (Vec::new(), Vec::new());
        client.write_any(23, &noise(16_384), &mut wire);
        server.open(&wire, &mut plain, &mut Vec::new()).unwrap();
        assert_eq!(plain, noise(16_384), "the longest record is taken");
        wire.clear();
        client.write_any(23, &noise(16_385), &mut wire);
        assert_eq!(refusal(&mut server, &wire), AlertDescription::RecordOverflow, "{version:?} {suite:?}");
    }
}

#[test]
fn nothing_is_read_after_close_notify() {
    for (version, suite) in MODES {
        let (mut client, mut server) = mirrored(version, suite, 0);
        let (mut wire, mut plain, mut answer) = (Vec::new(), Vec::new(), Vec::new());
        client.seal(b"last", &mut wire).unwrap();
        client.close_notify(&mut wire);
        wire.extend_from_slice(b"garbage");
        assert!(server.open(&wire, &mut plain, &mut answer).unwrap());
        assert!(server.open(b"more garbage", &mut plain, &mut answer).unwrap());
        assert_eq!(plain, b"last");
        server.seal(b"goodbye", &mut answer).expect("the other direction stays open");
        client.open(&answer, &mut plain, &mut Vec::new()).unwrap();
        assert_eq!(plain, b"lastgoodbye");
    }
}

#[test]
fn what_is_not_tls_is_refused_in_the_clear() {
    let acceptor = Acceptor::new(&settings(false)).unwrap();
    let mut hello_of_ssl2 = vec![0x80, 0x2e, 1, 0, 2];
    hello_of_ssl2.extend([0; 40]);
    let table: [(&str, &[u8]); 5] = [
        ("XML", b"<?xml version='1.0'?><stream:stream to='localhost'>"),
        ("HTTP", b"GET / HTTP/1.1\r\n\r\n"),
        ("SSL 2", &hello_of_ssl2),
        ("data first", &[23, 3, 3, 0, 1, 0]),
        ("a hello of nonsense", &[22, 3, 1, 0, 6, 1, 0, 0, 2, 0, 0]),
    ];
    for (what, wire) in table {
        for cut in [1, wire.len()] {
            let mut tls = acceptor.begin();
            let (mut plain, mut answer) = (Vec::new(), Vec::new());
            let failed = wire.chunks(cut).any(|part| tls.open(part, &mut plain, &mut answer).is_err());
            assert!(failed && plain.is_empty() && !tls.is_established(), "{what} by {cut}");
            assert!(
                matches!(answer[..], [21, 3, _, 0, 2, 2, _]),
                "{what} by {cut}: answered with {answer:?}"
            );
            assert!(matches!(tls.open(wire, &mut plain, &mut answer), Err(TlsError::NotOpen)));
        }
    }
}

#[test]
fn a_handshake_of_endless_length_is_cut_off() {
    let acceptor = Acceptor::new(&settings(false)).unwrap();
    let mut tls = acceptor.begin();
    let (mut plain, mut answer) = (Vec::new(), Vec::new());
    // A ClientHello that claims as much as it may and comes in small parts.
    let mut part = vec![22, 3, 1, 0, 104, 1, 0, 0xff, 0xff];
    part.extend([0; 100]);
    let mut sent = 0;
    let error = loop {
        match tls.open(&part, &mut plain, &mut answer) {
            Ok(_) => sent += part.len(),
            Err(error) => break error,
        }
        part = [22, 3, 1, 0, 100].into_iter().chain([0; 100]).collect();
        assert!(sent <= super::super::HANDSHAKE_BYTES_MAX, "nothing stops it");
    };
    assert!(matches!(error, TlsError::HandshakeTooLong { .. }), "{error}");
    assert!(matches!(answer[..], [21, 3, 3, 0, 2, 2, 40]), "{answer:?}");
}

#[test]
fn a_handshake_in_crumbs_is_cut_off() {
    let acceptor = Acceptor::new(&settings(false)).unwrap();
    let mut tls = acceptor.begin();
    let (mut plain, mut answer) = (Vec::new(), Vec::new());
    tls.open(&[22, 3, 1, 0, 4, 1, 0, 0xff, 0xff], &mut plain, &mut answer).unwrap();
    let mut crumb = || tls.open(&[22, 3, 1, 0, 1, 0], &mut plain, &mut answer);
    for number in 1..super::super::HANDSHAKE_RECORDS_MAX {
        crumb().unwrap_or_else(|error| panic!("record {number}: {error}"));
    }
    assert!(matches!(crumb(), Err(TlsError::HandshakeTooLong { .. })));
}
