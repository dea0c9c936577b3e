//! Clients that mean no good, or break.

use super::*;

#[test]
fn an_upload_is_taken_once_and_as_it_was_announced() {
    with_server(
        |_| {},
        |server| {
            let mut juliet = server.login("juliet", "balcony");
            let body = content(1000);
            let good = slot(&mut juliet, "a.png", body.len(), "image/png");
            let other = slot(&mut juliet, "a.png", body.len(), "image/png");
            let query = |slot: &Slot| slot.put.split_once('?').unwrap().1.to_owned();
            let length = format!("Content-Length: {}\r\n", body.len());
            let typed = format!("Content-Type: image/png\r\n{length}");
            let wrong = [
                (good.get.clone(), typed.clone(), 403, "wrong-key"),
                (format!("{}?{}", good.get, query(&other)), typed.clone(), 403, "wrong-key"),
                (good.put.replace("until=", "until=9"), typed.clone(), 403, "wrong-key"),
                (good.put.replace("key=", "key=A"), typed.clone(), 403, "wrong-key"),
                (good.put.replace("a.png", "b.png"), typed.clone(), 403, "wrong-name"),
                (good.put.replace("a.png", "..%2f..%2fetc%2fpasswd"), typed.clone(), 404, "no-such-path"),
                (good.put.clone(), length.clone(), 415, "wrong-type"),
                (good.put.clone(), format!("Content-Type: text/html\r\n{length}"), 415, "wrong-type"),
                (
                    good.put.clone(),
                    "Content-Type: image/png\r\nContent-Length: 999\r\n".into(),
                    400,
                    "wrong-length",
                ),
                (
                    good.put.clone(),
                    "Content-Type: image/png\r\nContent-Length: 1001\r\n".into(),
                    413,
                    "wrong-length",
                ),
                (good.put.clone(), "Content-Type: image/png\r\n".into(), 411, "length-required"),
                (good.put.clone(), format!("Content-Range: bytes 0-9/10\r\n{typed}"), 400, "in-parts"),
            ];
            for (path, fields, status, kind) in wrong {
                let mut stream = connect(server);
                stream.write_all(put_head(&path, &fields).as_bytes()).unwrap();
                let _ = stream.write_all(&body);
                if fields.contains("1001") {
                    // Whoever ends in the middle of a request, or of its answer, may hear nothing.
                    let _ = stream.write_all(b"x");
                }
                let mut bytes = Vec::new();
                let ended = stream.read_to_end(&mut bytes);
                let Some(answer) = Answer::read(&bytes) else {
                    panic!("{path} {fields}: {ended:?} {bytes:?}")
                };
                assert_eq!((answer.status, answer.problem().as_str()), (status, kind), "{path} {fields}");
            }
            assert_eq!(get(server, &good.get, "").status, 404, "there is no file yet");
            assert_eq!(put(server, &good.put, "image/png", &body).status, 201);
            let again = put(server, &good.put, "image/png", &content(1000));
            assert_eq!((again.status, again.problem().as_str()), (409, "used"));
            assert!(get(server, &good.get, "").body == body);
            assert_eq!(counted(server, "upload.refused.url"), 6);
            assert_eq!(counted(server, "upload.refused.unlike"), 6);
            assert_eq!(counted(server, "upload.refused.slot"), 1);
            assert_eq!(ask_for(server, "POST", &good.put, "Content-Length: 0\r\n").status, 405);
            assert_eq!(ask_for(server, "DELETE", &good.get, "").status, 405);
        },
    );
}

#[test]
fn an_upload_that_stops_leaves_nothing_and_may_be_tried_again() {
    with_server(
        |_| {},
        |server| {
            let mut juliet = server.login("juliet", "balcony");
            let body = content(700_000);
            let slot = slot(&mut juliet, "a.bin", body.len(), "");
            let head = put_head(&slot.put, &format!("Content-Length: {}\r\n", body.len()));
            let mut first = connect(server);
            first.write_all(head.as_bytes()).unwrap();
            first.write_all(&body[..600_000]).unwrap();
            until("the upload begins", || files(server).1 == 1);
            let second = put(server, &slot.put, "", &body);
            assert_eq!((second.status, second.problem().as_str()), (409, "under-way"));
            drop(first);
            until("nothing is left of it", || files(server) == (0, 0));
            until("it is counted", || counted(server, "upload.broken") == 1);
            assert_eq!(get(server, &slot.get, "").status, 404);
            assert_eq!(put(server, &slot.put, "", &body).status, 201);
            assert!(get(server, &slot.get, "").body == body);
            until("nothing is under way", || counted(server, "upload.transfers") == 0);
        },
    );
}

#[test]
fn requests_that_can_be_understood_in_two_ways_are_refused() {
    with_server(
        |_| {},
        |server| {
            let mut juliet = server.login("juliet", "balcony");
            let slot = slot(&mut juliet, "a.bin", 5, "");
            for (fields, body, status) in [
                ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\n\r\n", 400),
                ("Content-Length: 5\r\nContent-Length: 6\r\n", "hello", 400),
                ("Content-Length: 5\r\nTransfer-Encoding: gzip\r\n", "hello", 400),
                ("Transfer-Encoding: xchunked\r\n", "hello", 501),
                ("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\n\r\n", 411),
                ("Transfer-Encoding: chunked\r\n", "ZZ\r\nhello\r\n", 411),
                ("Content-Length: -5\r\n", "hello", 400),
            ] {
                let answer = send(server, &put_head(&slot.put, fields), body.as_bytes());
                assert_eq!(answer.status, status, "{fields}{body}");
            }
            let long = format!("X: {}\r\n", "y".repeat(20_000));
            assert_eq!(send(server, &put_head(&slot.put, &long), b"").status, 431);
            assert_eq!(put(server, &slot.put, "", b"hello").status, 201, "none of them has used the slot");
        },
    );
}

#[test]
fn no_path_leads_out_of_the_folder() {
    with_server(
        |_| {},
        |server| {
            let mut juliet = server.login("juliet", "balcony");
            let slot = upload(server, &mut juliet, "a.bin", "", b"hello");
            let id = slot.get.split('/').nth(2).unwrap();
            for path in [
                "/upload/../../directory/data.mdb".to_owned(),
                "/upload/%2e%2e/%2e%2e/directory/data.mdb".into(),
                format!("/upload/{id}/..%2f..%2fdirectory%2fdata.mdb"),
                format!("/upload/{id}/../{id}/a.bin"),
                format!("/upload/..%2f{id}/a.bin"),
                format!("/upload/{}/a.bin", id.to_uppercase()),
                format!("/upload/{id}"),
                format!("/upload/{id}/"),
                format!("/upload/{id}/a.bin/"),
                format!("//upload/{id}/a.bin"),
                format!("/upload/{id}/a.bin%00"),
                "/upload/incoming/a.bin".into(),
            ] {
                assert_eq!(get(server, &path, "").status, 404, "{path}");
            }
            assert_eq!(get(server, &slot.get, "").status, 200);
            assert_eq!(get(server, &slot.put, "").status, 200, "a slot's URL is that of the file, too");
        },
    );
}

#[test]
fn ranges_cost_no_more_than_the_file() {
    with_server(
        |_| {},
        |server| {
            let mut juliet = server.login("juliet", "balcony");
            let body = content(100_000);
            let slot = upload(server, &mut juliet, "a.bin", "", &body);
            let many: Vec<String> = (0..1000).map(|n| format!("{n}-")).collect();
            let answer = get(server, &slot.get, &format!("Range: bytes={}\r\n", many.join(",")));
            assert_eq!((answer.status, answer.body.len()), (200, body.len()));
            for range in
                ["bytes=18446744073709551615-", "bytes=0-18446744073709551616", "bytes=--1", "bytes=1-0"]
            {
                let answer = get(server, &slot.get, &format!("Range: {range}\r\n"));
                assert!(
                    [200, 206, 416].contains(&answer.status) && answer.body.len() <= body.len(),
                    "{range}"
                );
            }
        },
    );
}

#[test]
fn a_client_that_says_nothing_costs_the_others_nothing() {
    with_server(
        |config| {
            config.upload.transfers_max = 4;
            config.http.seconds = 1;
        },
        |server| {
            let mut juliet = server.login("juliet", "balcony");
            let mut slow: Vec<TcpStream> = Vec::new();
            for _ in 0..8 {
                let mut stream = connect(server);
                // A head that does not end.
                stream.write_all(b"PUT /upload/x").unwrap();
                slow.push(stream);
            }
            let wrong = slot(&mut juliet, "a.bin", 5000, "").put.replace("key=", "key=x");
            for _ in 0..8 {
                let mut stream = connect(server);
                // A body that does not come, for a slot that there is not.
                stream.write_all(put_head(&wrong, "Content-Length: 5000\r\n").as_bytes()).unwrap();
                slow.push(stream);
            }
            let begun = Instant::now();
            let body = content(10_000);
            let mut tries = 0;
            let slot = slot(&mut juliet, "b.bin", body.len(), "");
            while put(server, &slot.put, "", &body).status != 201 {
                tries += 1;
                assert!(begun.elapsed() < PATIENCE, "{tries} tries");
                std::thread::sleep(Duration::from_millis(50));
            }
            assert!(get(server, &slot.get, "").body == body);
            drop(slow);
        },
    );
}

#[test]
fn a_refused_client_that_waits_for_100_is_not_told_to_go_on() {
    with_server(
        |_| {},
        |server| {
            let mut juliet = server.login("juliet", "balcony");
            let slot = slot(&mut juliet, "a.bin", 5000, "");
            let wrong = slot.put.replace("key=", "key=x");
            for (path, length, status) in
                [(&wrong, 5000, 403), (&slot.put, 4999, 400), (&slot.put, 5001, 413)]
            {
                let fields = format!("Expect: 100-continue\r\nContent-Length: {length}\r\n");
                let begun = Instant::now();
                let answer = send(server, &put_head(path, &fields), b"");
                assert_eq!(answer.status, status, "{fields}");
                assert!(begun.elapsed() < Duration::from_secs(2), "{fields}: nothing is waited for");
            }
            assert_eq!(put(server, &slot.put, "", &content(5000)).status, 201);
        },
    );
}

#[test]
fn of_two_uploads_to_a_slot_at_once_one_is_taken() {
    const ROUNDS: usize = 12;
    with_server(
        |config| config.upload.account_slots_max = ROUNDS as u32,
        |server| {
            let mut juliet = server.login("juliet", "balcony");
            let bodies = [vec![b'a'; 300_000], vec![b'b'; 300_000]];
            for round in 0..ROUNDS {
                let slot = slot(&mut juliet, "a.bin", bodies[0].len(), "");
                let together = std::sync::Barrier::new(2);
                let answers: Vec<Answer> = std::thread::scope(|scope| {
                    let put = |body| {
                        let (slot, together) = (&slot, &together);
                        scope.spawn(move || {
                            together.wait();
                            put(server, &slot.put, "", body)
                        })
                    };
                    let started = [put(&bodies[0][..]), put(&bodies[1][..])];
                    started.map(|put| put.join().unwrap()).into_iter().collect()
                });
                let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
                let winner = statuses.iter().position(|status| *status == 201);
                let winner = winner.unwrap_or_else(|| panic!("round {round}: {statuses:?}"));
                assert_eq!(statuses[1 - winner], 409, "round {round}: {statuses:?}");
                assert!(
                    get(server, &slot.get, "").body == bodies[winner],
                    "round {round}: the one that was taken"
                );
            }
            assert_eq!(counted(server, "upload.stored"), ROUNDS as u64);
            until("nothing is left over", || files(server) == (ROUNDS, 0));
        },
    );
}
