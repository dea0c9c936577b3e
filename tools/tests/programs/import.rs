//! `whimbrelctl user import`.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::{PATIENCE, Place, whimbrelctl};

#[test]
fn good_lines_are_imported_bad_ones_reported_with_their_numbers_and_a_second_run_adds_nothing() {
    for with_server in [false, true] {
        let place = Place::new();
        let _server = with_server.then(|| place.server(&[]));
        let lines: [&[u8]; 9] = [
            b"alice@localhost\tsecret-1",
            b"no tab here",
            b"",
            b"bob@localhost\tsecret 2\r",
            b"carol@other.example\tsecret-3",
            b"\xff\xfe@localhost\tsecret-4",
            b"alice@localhost\tsecret-5",
            b"dave@localhost\t",
            b"eve@localhost\tsecret-6",
        ];
        let file = place.file("users.tsv", lines.join(&b"\n"[..]));
        let file = file.to_str().unwrap();
        let done = place.ctl(&["user", "import", "--create", file]);
        assert_eq!(done.code, 1, "{done:?}");
        assert_eq!(done.out, "3 added, 1 existed, 4 bad lines\n");
        for text in ["line 2: no tab", "line 5:", "line 6: not UTF-8", "line 8: the password is empty"] {
            assert!(done.err.contains(text), "`{text}`: {done:?}");
        }
        assert!(!done.err.contains("secret"), "a password is shown: {done:?}");
        assert_eq!(place.ctl(&["user", "list"]).out, "alice@localhost\nbob@localhost\neve@localhost\n");

        let again = place.ctl(&["user", "import", file, "--json"]);
        let outcome: serde_json::Value = serde_json::from_str(&again.out).expect("JSON");
        assert_eq!(outcome, serde_json::json!({ "added": 0, "existing": 4, "bad": 4 }));
    }
}

#[test]
fn scram_keys_are_taken_as_they_are_and_bad_ones_are_told_by_file_and_line() {
    const GOOD: &str = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:\
                        wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";
    let place = Place::new();
    let cut = &GOOD[..GOOD.len() - 8];
    let text = format!(
        "a@localhost\t{GOOD}\nb@localhost\t{cut}\nc@localhost\tSCRAM-SHA-512$1:a$b:c\nd@localhost\tpassword\n\
         e@localhost\t{GOOD}\t{GOOD}\nf@localhost\t {GOOD} \r\ng@localhost\t{}\nh@localhost\t\"{GOOD}\"\n",
        GOOD.replace("SCRAM-SHA", "scram-sha")
    );
    let file = place.file("keys.tsv", text);
    let file = file.to_str().unwrap();
    let done = place.ctl(&["user", "import", "--create", file]);
    assert_eq!((done.code, done.out.as_str()), (1, "3 added, 0 existed, 5 bad lines\n"), "{done:?}");
    for reason in [
        "line 2: ServerKey of SCRAM-SHA-256 must be 32 bytes in base64",
        "line 3: keys of SCRAM-SHA-256 and SCRAM-SHA-1 can be used",
        "line 5: the keys of one mechanism are given twice",
        "line 7: the mechanism of SCRAM keys is in capitals",
        "line 8: SCRAM keys are written MECHANISM$",
    ] {
        assert!(done.err.contains(&format!("{file}: {reason}")), "`{reason}`: {done:?}");
    }
    assert!(!done.err.contains("WG5d8"), "keys are shown: {done:?}");
    assert_eq!(place.ctl(&["user", "list"]).out, "a@localhost\nd@localhost\nf@localhost\n");
}

#[test]
fn an_interrupted_import_is_resumed_by_running_it_again() {
    const USERS: usize = 3000;
    let place = Place::new();
    let text: String = (0..USERS).map(|n| format!("user{n:05}@localhost\tpassword-{n}\n")).collect();
    let file = place.file("users.tsv", text);
    let file = file.to_str().unwrap();
    let mut import = Command::new(whimbrelctl())
        .arg("--data")
        .arg(place.data())
        .args(["user", "import", "--create", file, "--scram-iterations", "1024"])
        .stdout(Stdio::null())
        .spawn()
        .expect("it runs");
    // The directory is locked while it runs, so its growth is all that shows progress from outside.
    let deadline = Instant::now() + PATIENCE;
    let size = || std::fs::metadata(place.data().join("directory/data.mdb")).map_or(0, |file| file.len());
    while size() < 150_000 && import.try_wait().expect("ours").is_none() {
        assert!(Instant::now() < deadline, "the import does not begin");
        std::thread::sleep(Duration::from_millis(1));
    }
    import.kill().expect("ours");
    import.wait().expect("ours");

    let before = place.ctl(&["user", "list"]).out.lines().count();
    let outcome = place.json(&["user", "import", "--create", file, "--scram-iterations", "1024"]);
    assert_eq!(outcome["existing"], before, "{outcome}");
    assert_eq!(outcome["added"], USERS - before, "{outcome}");
    assert_eq!(place.ctl(&["user", "list"]).out.lines().count(), USERS);
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let place = Place::new();
    place.ctl(&["user", "import", "/does/not/exist"]).fails(1, &["cannot read /does/not/exist"]);
    place.ctl(&["user", "import", "/"]).fails(1, &["it is a directory"]);
}

#[test]
fn accounts_come_from_standard_input_too() {
    let place = Place::new();
    let done = place.ctl_with(&["user", "import", "--create", "-"], "a@localhost\tx\nb@localhost\ty\n");
    assert_eq!((done.code, done.out.as_str()), (0, "2 added, 0 existed, 0 bad lines\n"), "{done:?}");
}
