//! Limits, and the end of slots and files.

use whimbrel_storage::directory::run_inline;

use super::*;
use crate::support::answers::outcome;

/// The application's condition of an error, as text.
fn said(answer: &Element) -> String {
    format!("{answer:?}")
}

#[test]
fn an_account_has_its_quotas() {
    with_server(
        |config| {
            config.upload.file_mib_max = 1;
            config.upload.account_files_per_day = 3;
            config.upload.account_slots_max = 2;
        },
        |server| {
            let mut juliet = server.login("juliet", "balcony");
            let large = ask(&mut juliet, "a.bin", (1 << 20) + 1, "");
            assert_eq!(outcome(&large), "not-acceptable");
            let error = large.find("error", "jabber:client").unwrap();
            let too_large = error.find("file-too-large", "urn:xmpp:http:upload:0").unwrap();
            let most = too_large.find("max-file-size", "urn:xmpp:http:upload:0").unwrap();
            assert_eq!(most.content(), "1048576");
            upload(server, &mut juliet, "a.bin", "", b"hello");
            let waiting = slot(&mut juliet, "b.bin", 5, "");
            slot(&mut juliet, "c.bin", 5, "");
            let slots = ask(&mut juliet, "d.bin", 5, "");
            assert_eq!(outcome(&slots), "resource-constraint");
            assert_eq!(put(server, &waiting.put, "", b"hello").status, 201);
            let day = ask(&mut juliet, "d.bin", 5, "");
            assert_eq!(outcome(&day), "resource-constraint");
            let error = day.find("error", "jabber:client").unwrap();
            let retry = error.find("retry", "urn:xmpp:http:upload:0").unwrap();
            assert!(
                retry.attribute("stamp").is_some_and(|stamp| stamp.ends_with("T00:00:00Z")),
                "{}",
                said(&day)
            );
            assert_eq!(server.metric("refused.upload_limits"), 2);
            assert_eq!(server.metric("refused.upload_bytes"), 1);
            let mut romeo = server.login("romeo", "orchard");
            upload(server, &mut romeo, "a.bin", "", b"hello");
        },
    );
}

#[test]
fn a_full_disk_is_told_and_chat_goes_on() {
    with_server(
        |config| config.upload.mib_left_free = u32::MAX,
        |server| {
            let mut juliet = server.login("juliet", "balcony");
            let mut romeo = server.login("romeo", "orchard");
            let slot = slot(&mut juliet, "a.bin", 5, "");
            let answer = put(server, &slot.put, "", b"hello");
            assert_eq!((answer.status, answer.problem().as_str()), (507, "disk-full"));
            assert!(answer.field("retry-after").is_some());
            assert_eq!(files(server), (0, 0));
            assert_eq!(counted(server, "upload.refused.disk"), 1);
            juliet
                .send("<message to='romeo@localhost/orchard' type='chat'><body>still here</body></message>");
            let message = romeo.expect("message");
            assert_eq!(message.find("body", "jabber:client").unwrap().content(), "still here");
        },
    );
}

#[test]
fn files_go_with_their_account_and_when_they_are_over() {
    with_server(
        |config| config.upload.keep_days = 1,
        |server| {
            let mut juliet = server.login("juliet", "balcony");
            let mut romeo = server.login("romeo", "orchard");
            let kept = upload(server, &mut romeo, "a.bin", "", b"hello");
            let gone = upload(server, &mut juliet, "a.bin", "", b"hello");
            let slot = slot(&mut juliet, "b.bin", 5, "");
            let directory = &server.server.shared.directory;
            assert!(run_inline(directory, Box::new(|t| t.delete_account("juliet"))).unwrap());
            assert_eq!(get(server, &gone.get, "").status, 404);
            let late = put(server, &slot.put, "", b"hello");
            assert_eq!((late.status, late.problem().as_str()), (410, "gone"));
            until("its files are removed", || files(server) == (1, 0));
            assert_eq!(get(server, &kept.get, "").status, 200);
            let now_ms = whimbrel_server::clock::unix_milliseconds();
            let ended = run_inline(directory, Box::new(move |t| t.end_uploads(0, now_ms + 1, 10))).unwrap();
            assert_eq!(ended, (0, 1));
            assert_eq!(get(server, &kept.get, "").status, 404);
            until("they are removed", || files(server) == (0, 0));
            until("they are counted", || counted(server, "upload.erased") == 3);
        },
    );
}

#[test]
fn an_address_has_so_many_transfers() {
    with_server(
        |config| config.upload.transfers_per_address = 1,
        |server| {
            let mut juliet = server.login("juliet", "balcony");
            let (first, second) = (slot(&mut juliet, "a.bin", 5, ""), slot(&mut juliet, "b.bin", 5, ""));
            let mut slow = connect(server);
            slow.write_all(put_head(&first.put, "Content-Length: 5\r\n").as_bytes()).unwrap();
            slow.write_all(b"he").unwrap();
            until("the upload begins", || files(server).1 == 1);
            let answer = put(server, &second.put, "", b"hello");
            assert_eq!((answer.status, answer.problem().as_str()), (429, "too-many-transfers"));
            assert_eq!(counted(server, "upload.refused.busy"), 1);
            slow.write_all(b"llo").unwrap();
            assert_eq!(Answer::of(slow).status, 201);
            assert_eq!(put(server, &second.put, "", b"hello").status, 201);
        },
    );
}

#[test]
fn a_server_without_uploads_says_nothing_of_them() {
    with_server(
        |config| config.upload.enabled = false,
        |server| {
            let mut juliet = server.login("juliet", "balcony");
            let answer = ask(&mut juliet, "a.bin", 5, "");
            assert_eq!(outcome(&answer), "remote-server-not-found");
            let items = "<query xmlns='http://jabber.org/protocol/disco#items'/>";
            let items = juliet.ask("get", Some("localhost"), items);
            assert!(!said(&items).contains("upload.localhost"));
            assert_eq!(get(server, "/upload/x/y", "").status, 404);
        },
    );
}
