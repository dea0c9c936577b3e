//! Chromium, told what to do over its pipe (the DevTools protocol with NUL after each message).

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{PATIENCE, Running};

/// A browser with one page.
pub(crate) struct Browser {
    _process: Running,
    to: File,
    from: BufReader<File>,
    session: Value,
    last: u64,
}

impl Browser {
    /// `None` where there is no Chromium. `folder` is for its files.
    pub(crate) fn open(folder: &Path, (width, height): (u32, u32)) -> Option<Browser> {
        if Command::new("chromium").arg("--version").output().is_err() {
            println!("skipped: there is no chromium here");
            return None;
        }
        let (input, output) = (folder.join("to-browser"), folder.join("from-browser"));
        let made = Command::new("mkfifo").args([&input, &output]).status().expect("mkfifo runs");
        assert!(made.success());
        let line = "exec chromium --headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage \
                    --no-first-run --remote-debugging-pipe --user-data-dir=\"$2\" about:blank 3<\"$0\" 4>\"$1\"";
        let mut command = Command::new("sh");
        command.args(["-c", line]).args([&input, &output, &folder.join("browser")]);
        let process = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("sh runs");
        let to = File::options().write(true).open(&input).expect("the browser reads");
        let from = BufReader::new(File::open(&output).expect("the browser writes"));
        let mut browser = Browser { _process: Running(process), to, from, session: Value::Null, last: 0 };
        let target = browser.call("Target.createTarget", json!({"url": "about:blank"}));
        let target = json!({"targetId": target["targetId"], "flatten": true});
        browser.session = browser.call("Target.attachToTarget", target)["sessionId"].clone();
        let metrics =
            json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500});
        browser.call("Emulation.setDeviceMetricsOverride", metrics);
        Some(browser)
    }

    /// Calls a method, and returns its result.
    #[track_caller]
    pub(crate) fn call(&mut self, method: &str, params: Value) -> Value {
        self.last += 1;
        let mut message = json!({"id": self.last, "method": method, "params": params});
        if !self.session.is_null() {
            message["sessionId"] = self.session.clone();
        }
        self.to.write_all(format!("{message}\0").as_bytes()).expect("the browser reads");
        loop {
            let mut bytes = Vec::new();
            self.from.read_until(0, &mut bytes).expect("the browser writes");
            assert_eq!(bytes.pop(), Some(0), "the browser has ended");
            let answer: Value = serde_json::from_slice(&bytes).expect("JSON");
            if answer["id"] == self.last {
                assert!(answer["error"].is_null(), "{method}: {}", answer["error"]);
                return answer["result"].clone();
            }
        }
    }

    pub(crate) fn go(&mut self, address: &str) {
        self.call("Page.navigate", json!({"url": address}));
    }

    /// The value of an expression in the page; `null` while there is none.
    #[track_caller]
    pub(crate) fn value(&mut self, expression: &str) -> Value {
        let params = json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        self.call("Runtime.evaluate", params)["result"]["value"].clone()
    }

    /// Waits until an expression is something, and returns that.
    #[track_caller]
    pub(crate) fn wait(&mut self, expression: &str) -> Value {
        let begun = Instant::now();
        loop {
            let value = self.value(expression);
            if !matches!(value, Value::Null | Value::Bool(false)) && value != "" {
                return value;
            }
            if begun.elapsed() > PATIENCE {
                let page = self.value("location.href + '\\n' + document.body.innerText");
                panic!("`{expression}` does not come true: {}", page.as_str().unwrap_or_default());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}
