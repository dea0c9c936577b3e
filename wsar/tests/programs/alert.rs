//! `wsar alert` with a real backlog in a real server.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::process::Stdio;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use crate::support::{Client, PATIENCE, Running, Server, wsar};

#[test]
#[expect(clippy::too_many_lines, reason = "a test that is one story")]
fn a_backlog_raises_an_alert_and_its_end_clears_it() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    let hook = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = hook.local_addr().unwrap();
    let (told, requests) = channel();
    std::thread::spawn(move || {
        for stream in hook.incoming().map_while(Result::ok) {
            let mut request = String::new();
            let mut stream = stream;
            let mut buffer = [0; 1024];
            while !request.ends_with('}') {
                let Ok(n @ 1..) = stream.read(&mut buffer) else { break };
                request += &String::from_utf8_lossy(&buffer[..n]);
            }
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            if told.send(request).is_err() {
                return;
            }
        }
    });
    let (log, rules) = (data.path().join("alerts"), data.path().join("rules.toml"));
    let script = format!("echo \"$WSAR_STATE $WSAR_RULE\" >>'{}.sh'", log.display());
    let text = format!(
        "builtin = false\n[[rule]]\nname = 'slow readers'\nmetric = 'queue.output.length'\nabove = 50000\nclear = 1000\nfor = '300ms'\n\
         [[action]]\nlog = '{}'\n[[action]]\nwebhook = 'http://{address}/hook'\n\
         [[action]]\ncommand = ['/bin/sh', '-c', {script:?}]\n",
        log.display()
    );
    std::fs::write(&rules, text).unwrap();
    let rules = rules.display().to_string();
    let mut command = wsar(data.path(), &["alert", "--rules", &rules, "--every", "0.1"]);
    let mut alert = Running(command.stdout(Stdio::piped()).spawn().unwrap());
    let mut lines = BufReader::new(alert.0.stdout.take().unwrap()).lines().map_while(Result::ok);

    // A client that does not read what another sends it.
    let mut deaf = Client::login(&server, "deaf");
    deaf.say("<presence/>");
    deaf.hear("<presence");
    let mut sender = Client::login(&server, "sender");
    let body = "x".repeat(8_000);
    let begun = Instant::now();
    let sending = {
        sender.stream.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
        let message =
            format!("<message to='juliet@localhost/deaf' type='chat'><body>{body}</body></message>");
        let (stop, stopped) = channel::<()>();
        let thread = std::thread::spawn(move || {
            // Until the server stops reading from this client, or the test has seen enough.
            let mut left = message.as_bytes();
            while stopped.try_recv().is_err() && begun.elapsed() < PATIENCE {
                match sender.stream.write(left) {
                    Ok(n) => left = &left[n..],
                    Err(_) => std::thread::sleep(Duration::from_millis(10)),
                }
                if left.is_empty() {
                    left = message.as_bytes();
                    // Slowly: errors to this client, which does not read them, would be a backlog as well once the
                    // mailbox is full.
                    std::thread::sleep(Duration::from_millis(2));
                }
            }
            sender
        });
        (stop, thread)
    };
    let line = lines.next().expect("a line");
    assert!(line.contains("ALERT slow readers"), "{line}");
    // It reads again, until nothing is left.
    let _ = sending.0.send(());
    let _sender = sending.1.join().unwrap();
    let reader = std::thread::spawn(move || {
        let mut buffer = vec![0; 1 << 16];
        while matches!(deaf.stream.read(&mut buffer), Ok(1..)) {}
    });
    let line = lines.next().expect("a line");
    assert!(line.contains("clear slow readers"), "{line}");
    for state in ["alert", "clear"] {
        let request = requests.recv_timeout(PATIENCE).expect("the webhook is called");
        assert!(request.starts_with("POST /hook") && request.contains(&format!("\"{state}\"")), "{request}");
    }
    alert.stop();
    drop(server);
    reader.join().unwrap();
    let logged = std::fs::read_to_string(&log).unwrap();
    assert_eq!(logged.lines().count(), 2, "{logged}");
    let ran = std::fs::read_to_string(format!("{}.sh", log.display())).unwrap();
    assert_eq!(ran, "alert slow readers\nclear slow readers\n");
}

#[test]
fn rules_that_watch_what_there_is_not_are_found_without_a_server() {
    let data = tempfile::tempdir().unwrap();
    let rules = data.path().join("rules.toml");
    let check = |metrics: &[&str]| {
        let rule =
            |metric: &&str| format!("[[rule]]\nname = 'of {metric}'\nmetric = '{metric}'\nabove = 1\n");
        std::fs::write(&rules, metrics.iter().map(rule).collect::<String>()).unwrap();
        let rules = rules.to_str().unwrap();
        let done = wsar(data.path(), &["alert", "--rules", rules, "--check"]).output().unwrap();
        (done.status.success(), String::from_utf8(done.stderr).unwrap())
    };
    assert_eq!(check(&["loop.latency:p99", "full:held", "memory.available"]), (true, String::new()));
    let (good, told) = check(&["loop.latencyy:p99", "messages.in", "full:nosuchqueue"]);
    assert!(
        !good && told.contains("did you mean `loop.latency`?") && told.contains("`nosuchqueue`"),
        "{told}"
    );
    assert!(!told.contains("of messages.in"), "{told}");
}
