//! Handshakes and data, as they should be.

use super::*;
use crate::channel_bindings::ChannelBindings;

#[test]
fn every_suite_carries_data_both_ways_and_closes() {
    for of in SUITES {
        let mut pair = Pair::connected(of);
        assert_eq!(pair.client.negotiated_cipher_suite().map(|suite| suite.suite()), Some(of.0.suite()));
        assert_eq!(pair.client.alpn_protocol(), Some(super::super::ALPN));
        assert_eq!(pair.done, 1, "{of:?}");
        for data in [&b"<stream>"[..], &noise(16_384), &noise(16_385), &noise(300_000), b"x"] {
            pair.client_says(data);
            pair.server_says(data);
        }
        let mut wire = Vec::new();
        pair.tls.close_notify(&mut wire);
        pair.tls.close_notify(&mut wire);
        pair.give_to_client(&wire);
        let closed = pair.client.process_new_packets().unwrap();
        assert!(closed.peer_has_closed() && closed.plaintext_bytes_to_read() == 0, "{of:?}");
        assert!(matches!(pair.tls.seal(b"more", &mut wire), Err(TlsError::NotOpen)));
        pair.client.send_close_notify();
        pair.talk().unwrap();
        assert!(pair.peer_closed, "{of:?}");
        assert!(pair.tls.is_established(), "what was established once counts as such");
    }
}

#[test]
fn the_stream_may_be_cut_anywhere() {
    for of in SUITES {
        for cut in [1, 2, 3, 5, 7, 64, 1000] {
            let mut pair = Pair::new(of);
            pair.cut = cut;
            pair.talk().unwrap();
            assert_eq!(pair.done, 1, "{of:?} by {cut}");
            pair.client_says(&noise(2000));
            pair.client_says(b"y");
            pair.server_says(&noise(2000));
            pair.client.send_close_notify();
            pair.talk().unwrap();
            assert!(pair.peer_closed, "{of:?} by {cut}");
        }
    }
}

#[test]
fn what_comes_behind_the_handshake_in_one_piece_is_not_lost() {
    for of in SUITES {
        for missing in [0, 1, 20, 40] {
            let mut pair = Pair::new(of);
            let mut wire = Vec::new();
            while pair.client.is_handshaking() {
                wire = pair.take_from_client();
                if pair.client.is_handshaking() {
                    pair.give(&wire).unwrap();
                    wire.clear();
                }
                if is_tls13(of.0) || pair.tls.is_established() {
                    break;
                }
            }
            // In TLS 1.3 the client sends its Finished and data together; in TLS 1.2 it waits for ours.
            pair.client.writer().write_all(b"<first/>").unwrap();
            pair.client.writer().write_all(b"<second/>").unwrap();
            wire.extend(pair.take_from_client());
            let at = wire.len() - missing;
            pair.give(&wire[..at]).unwrap();
            assert!(pair.tls.is_established(), "{of:?} without {missing}");
            pair.give(&wire[at..]).unwrap();
            assert_eq!(pair.plain, b"<first/><second/>", "{of:?} without {missing}");
        }
    }
}

#[test]
fn nothing_can_be_sent_before_the_handshake_is_done() {
    let mut pair = Pair::new(SUITES[0]);
    let mut wire = Vec::new();
    assert!(matches!(pair.tls.seal(b"x", &mut wire), Err(TlsError::NotOpen)));
    pair.tls.close_notify(&mut wire);
    assert!(wire.is_empty() && !pair.tls.is_established());
    assert!(pair.tls.channel_bindings().is_empty());
    assert_eq!(pair.tls.open(b"", &mut Vec::new(), &mut wire).unwrap(), Progress::default());
}

#[test]
fn alpn_is_answered_when_it_fits_and_refused_when_it_does_not() {
    let table: [(&[&str], bool); 4] = [
        (&[], true),
        (&["xmpp-client"], true),
        (&["h2", "xmpp-client"], true),
        (&["h2", "xmpp-server"], false),
    ];
    for suite in [SUITES[0].0, SUITES[3].0] {
        for (offered, accepted) in table {
            let settings = settings(false);
            let acceptor = Acceptor::new(&settings).unwrap();
            let mut pair = Pair::of(&acceptor, client(suite, &settings.certificate, offered));
            assert_eq!(pair.talk().is_ok() && pair.tls.is_established(), accepted, "{offered:?}");
            let alert = (!accepted).then_some(rustls::AlertDescription::NoApplicationProtocol);
            assert_eq!(pair.alert_at_client(), alert, "{offered:?}");
            assert_eq!(pair.client.alpn_protocol().is_some(), accepted && !offered.is_empty());
        }
    }
}

#[test]
fn both_sides_have_the_same_channel_bindings() {
    for of in SUITES {
        let mut pair = Pair::connected(of);
        let exporter = |client: &ClientConnection| {
            client.export_keying_material([0; 32], b"EXPORTER-Channel-Binding", Some(b"")).unwrap()
        };
        let expected = is_tls13(of.0).then(|| exporter(&pair.client));
        let certificate = pair.client.peer_certificates().unwrap()[0].clone();
        let hash = ring::digest::digest(&ring::digest::SHA256, &certificate);
        let ChannelBindings { tls_exporter, tls_server_end_point } = pair.tls.channel_bindings();
        assert_eq!(tls_exporter, expected, "{of:?}");
        assert_eq!(tls_server_end_point.as_deref(), Some(hash.as_ref()), "{of:?}");
        assert!(pair.tls.channel_bindings().is_empty(), "they are given away once");
    }
}

#[test]
fn a_reload_changes_the_certificate_of_later_connections_only() {
    let (old, new) = (settings(false), settings(true));
    let acceptor = Acceptor::new(&old).unwrap();
    let suite = SUITES[0].0;
    let mut early = Pair::of(&acceptor, client(suite, &old.certificate, &[]));
    let hello = early.take_from_client();
    early.give(&hello[..10]).unwrap();
    acceptor.reload(&new).unwrap();
    early.give(&hello[10..]).unwrap();
    early.talk().unwrap();
    assert!(early.tls.is_established());
    let mut late = Pair::of(&acceptor, client(suite, &new.certificate, &[]));
    late.talk().unwrap();
    assert!(late.tls.is_established());

    let mut broken = new.clone();
    broken.key = pem("ec-sec1.key");
    let error = acceptor.reload(&broken).unwrap_err().to_string();
    assert!(error.contains("does not belong"), "{error}");
    let mut still = Pair::of(&acceptor, client(suite, &new.certificate, &[]));
    still.talk().unwrap();
    assert!(still.tls.is_established(), "the old certificate stays in use");
}
