//! Slots, uploads and downloads of clients that mean well.

use super::*;
use crate::support::answers::outcome;

#[test]
fn the_service_says_what_it_takes() {
    with_server(
        |config| config.upload.file_mib_max = 3,
        |server| {
            let mut juliet = server.login("juliet", "balcony");
            let items = "<query xmlns='http://jabber.org/protocol/disco#items'/>";
            let items = juliet.ask("get", Some("localhost"), items);
            let listed =
                payload(&items).elements().any(|item| item.attribute("jid") == Some("upload.localhost"));
            assert!(listed, "{items:?}");
            let info = "<query xmlns='http://jabber.org/protocol/disco#info'/>";
            let info = juliet.ask("get", Some("upload.localhost"), info);
            let found = |name: &str, attribute: &str| {
                let of = payload(&info).elements().filter(|child| child.name() == name);
                of.filter_map(|child| child.attribute(attribute).map(str::to_owned)).collect::<Vec<_>>()
            };
            assert_eq!(
                (found("identity", "category"), found("identity", "type")),
                (vec!["store".into()], vec!["file".into()])
            );
            assert!(found("feature", "var").contains(&"urn:xmpp:http:upload:0".to_owned()));
            let form = payload(&info).find("x", "jabber:x:data").unwrap();
            let fields: Vec<_> = form.elements().filter(|field| field.name() == "field").collect();
            let values: Vec<_> =
                fields.iter().map(|field| field.find("value", "jabber:x:data").unwrap().content()).collect();
            assert_eq!(values, ["urn:xmpp:http:upload:0", "3145728"]);
            for (to, asked, condition) in [
                (
                    "upload.localhost",
                    "<query xmlns='http://jabber.org/protocol/disco#info' node='x'/>",
                    "item-not-found",
                ),
                ("upload.localhost", "<ping xmlns='urn:xmpp:ping'/>", "service-unavailable"),
                (
                    "juliet@upload.localhost",
                    "<query xmlns='http://jabber.org/protocol/disco#info'/>",
                    "service-unavailable",
                ),
            ] {
                assert_eq!(outcome(&juliet.ask("get", Some(to), asked)), condition, "{to} {asked}");
            }
            assert_eq!(
                outcome(&juliet.ask("set", Some("upload.localhost"), &request("a", 1, ""))),
                "service-unavailable"
            );
        },
    );
}

#[test]
fn a_file_comes_back_as_it_went() {
    with_server(
        |_| {},
        |server| {
            let mut juliet = server.login("juliet", "balcony");
            for (name, media, bytes) in [
                ("cat.jpg", "image/jpeg", 1),
                ("ä &amp; b.bin", "", 300_000),
                ("large.mp4", "video/mp4", 3_000_001),
            ] {
                let body = content(bytes);
                let slot = upload(server, &mut juliet, name, media, &body);
                let answer = get(server, &slot.get, "");
                assert_eq!(answer.status, 200);
                assert!(answer.body == body, "{name}: {} bytes", answer.body.len());
                assert_eq!(answer.field("content-length"), Some(&*bytes.to_string()));
                let head = ask_for(server, "HEAD", &slot.get, "");
                assert_eq!((head.status, head.body.len()), (200, 0));
                assert_eq!(head.field("content-length"), Some(&*bytes.to_string()));
                assert_eq!(get(server, &slot.get.replace(".", "-"), "").status, 404, "another name");
            }
            assert_eq!(files(server), (3, 0));
            assert_eq!(counted(server, "upload.stored"), 3);
            until("the gauge", || counted(server, "upload.files") == 3);
        },
    );
}

#[test]
fn what_is_not_harmless_is_not_shown_in_a_browser() {
    with_server(
        |_| {},
        |server| {
            let mut juliet = server.login("juliet", "balcony");
            for (name, media, disposition) in [
                ("a.png", "image/png", "inline; filename=\"a.png\""),
                ("a.svg", "image/svg+xml", "attachment; filename=\"a.svg\""),
                ("a.html", "text/html; charset=utf-8", "attachment; filename=\"a.html\""),
            ] {
                let slot = upload(server, &mut juliet, name, media, b"<script>alert(1)</script>");
                let answer = get(server, &slot.get, "Origin: https://page.example\r\n");
                assert_eq!(answer.field("content-type"), Some(media));
                assert_eq!(answer.field("content-disposition"), Some(disposition));
                assert_eq!(answer.field("content-security-policy"), Some("default-src 'none'; sandbox"));
                assert_eq!(answer.field("x-content-type-options"), Some("nosniff"));
                assert_eq!(answer.field("access-control-allow-origin"), Some("*"));
            }
            let slot = slot(&mut juliet, "a.png", 1, "image/png");
            let asked = "Origin: https://page.example\r\nAccess-Control-Request-Method: PUT\r\n\
                Access-Control-Request-Headers: content-type\r\n";
            let before = ask_for(server, "OPTIONS", &slot.put, asked);
            assert_eq!(before.status, 204);
            assert!(before.field("access-control-allow-methods").unwrap().contains("PUT"), "{before:?}");
            assert_eq!(before.field("access-control-allow-headers"), Some("Content-Type"));
        },
    );
}

#[test]
fn a_part_is_given_and_what_the_client_has_is_not() {
    with_server(
        |_| {},
        |server| {
            let mut juliet = server.login("juliet", "balcony");
            let body = content(600_000);
            let slot = upload(server, &mut juliet, "a.bin", "", &body);
            let whole = ask_for(server, "HEAD", &slot.get, "");
            let (tag, date) = (whole.field("etag").unwrap(), whole.field("last-modified").unwrap());
            for (fields, status, part) in [
                ("Range: bytes=0-0\r\n".to_owned(), 206, Some(0..1)),
                ("Range: bytes=299999-\r\n".into(), 206, Some(299_999..600_000)),
                ("Range: bytes=-5\r\n".into(), 206, Some(599_995..600_000)),
                (format!("Range: bytes=2-9\r\nIf-Range: {tag}\r\n"), 206, Some(2..10)),
                ("Range: bytes=2-9\r\nIf-Range: \"x\"\r\n".into(), 200, Some(0..600_000)),
                ("Range: bytes=0-1,5-6\r\n".into(), 200, Some(0..600_000)),
                ("Range: bytes=600000-\r\n".into(), 416, None),
                (format!("If-None-Match: {tag}\r\n"), 304, None),
                (format!("If-Modified-Since: {date}\r\n"), 304, None),
                (format!("If-None-Match: \"x\"\r\nIf-Modified-Since: {date}\r\n"), 200, Some(0..600_000)),
            ] {
                let answer = get(server, &slot.get, &fields);
                assert_eq!(answer.status, status, "{fields}");
                if let Some(part) = part {
                    assert!(answer.body == body[part.clone()], "{fields}: {} bytes", answer.body.len());
                    let range = format!("bytes {}-{}/600000", part.start, part.end - 1);
                    let expected = (status == 206).then_some(&*range);
                    assert_eq!(answer.field("content-range"), expected, "{fields}");
                }
                if status == 416 {
                    assert_eq!(answer.field("content-range"), Some("bytes */600000"));
                }
            }
        },
    );
}

#[test]
fn two_requests_share_a_connection() {
    with_server(
        |_| {},
        |server| {
            let mut juliet = server.login("juliet", "balcony");
            let body = content(400_000);
            let slot = slot(&mut juliet, "a.bin", body.len(), "");
            let mut stream = connect(server);
            let head = format!(
                "PUT {} HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n",
                slot.put,
                body.len()
            );
            stream.write_all(head.as_bytes()).unwrap();
            let mut go_on = [0; 25];
            stream.read_exact(&mut go_on).unwrap();
            assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
            stream.write_all(&body).unwrap();
            let mut status = [0; 12];
            stream.read_exact(&mut status).unwrap();
            assert_eq!(&status, b"HTTP/1.1 201");
            let head = format!("GET {} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", slot.get);
            stream.write_all(head.as_bytes()).unwrap();
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).unwrap();
            assert!(rest.ends_with(&body));
        },
    );
}

#[test]
fn with_tls_it_is_the_same() {
    let server = TestServer::start(drivers()[0], |config| {
        with_http(config, true);
        config.upload.mib_left_free = 0;
    });
    server.accounts(&["juliet"]);
    let mut juliet = server.login("juliet", "balcony");
    let body = content(500_000);
    let slot = slot(&mut juliet, "a.bin", body.len(), "");
    let agent = crate::support::api::agent_of(&server.certificate());
    let url = |path: &str| format!("https://localhost:{}{path}", server.http_address().port());
    let answer = agent.put(url(&slot.put)).send(&body[..]).unwrap();
    assert_eq!(answer.status().as_u16(), 201);
    let got = agent.get(url(&slot.get)).call().unwrap().into_body().read_to_vec().unwrap();
    assert!(got == body, "{} bytes", got.len());
}
