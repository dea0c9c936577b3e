//! The page below a path of a reverse proxy: nginx, as Debian has it.

use std::io::Write;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::browser::Browser;
use crate::serve::{request, serve_with};
use crate::support::{PATIENCE, Running};

const TOKEN: &str = "0123456789abcdef0123";

/// nginx with the page at `/ops/wsar/`, and its address. `None` where there is none.
fn nginx(folder: &Path, page: &str) -> Option<(Running, String)> {
    let program =
        ["nginx", "/usr/sbin/nginx"].into_iter().find(|name| Command::new(name).arg("-v").output().is_ok());
    let Some(program) = program else {
        println!("skipped: there is no nginx here");
        return None;
    };
    // Free a moment ago: nginx must be told a number.
    let port = TcpListener::bind("127.0.0.1:0").expect("an address").local_addr().expect("an address").port();
    let root = folder.display();
    let config = format!(
        "daemon off; master_process off; pid {root}/nginx.pid; error_log {root}/error.log;\n\
         events {{}}\n\
         http {{\n access_log off; client_body_temp_path {root}/a; proxy_temp_path {root}/b; fastcgi_temp_path {root}/c;\n\
         uwsgi_temp_path {root}/d; scgi_temp_path {root}/e;\n\
         server {{ listen 127.0.0.1:{port}; location /ops/wsar/ {{ proxy_pass http://{page}/; proxy_http_version 1.1; }} }}\n}}\n"
    );
    let path = folder.join("nginx.conf");
    std::fs::File::create(&path).expect("a file").write_all(config.as_bytes()).expect("room");
    let mut command = Command::new(program);
    command.arg("-p").arg(folder).arg("-c").arg(&path).stderr(Stdio::null());
    let running = Running(command.spawn().expect("nginx runs"));
    let address = format!("127.0.0.1:{port}");
    let begun = std::time::Instant::now();
    while std::net::TcpStream::connect(&address).is_err() {
        assert!(begun.elapsed() < PATIENCE, "nginx does not listen");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    Some((running, address))
}

#[test]
fn everything_works_below_a_path_of_a_reverse_proxy() {
    let data = tempfile::tempdir().unwrap();
    let (_page, address) = serve_with(data.path(), Some(TOKEN));
    let Some((_nginx, proxy)) = nginx(data.path(), &address) else { return };

    let (head, _) = request(&proxy, "GET /ops/wsar/", "");
    assert!(head.starts_with("HTTP/1.1 303 ") && head.contains("location: login\r\n"), "{head}");
    let (head, _) = request(&proxy, &format!("GET /ops/wsar/?token={TOKEN}"), "");
    assert!(head.contains("location: ./\r\n") && !head.contains("Path="), "{head}");

    let Some(mut browser) = Browser::open(data.path(), (1280, 800)) else { return };
    let page = format!("http://{proxy}/ops/wsar/");
    browser.go(&page);
    browser.wait("location.pathname === '/ops/wsar/login' && document.readyState === 'complete'");
    let log_in = |token: &str| {
        format!("document.getElementById('token').value = '{token}'; document.forms[0].submit()")
    };
    browser.value(&log_in("a wrong token of that length"));
    browser.wait("location.hash === '#wrong' && document.readyState === 'complete'");
    browser.value(&log_in(TOKEN));
    // Logged in; the scripts have come, the samples come, and so does the past.
    browser.wait("location.pathname === '/ops/wsar/' && document.querySelector('#server.warn')?.textContent === 'no server'");
    browser.wait("document.querySelectorAll('.chart canvas').length > 5");
    browser.value("document.querySelector('[data-last]').click()");
    browser.wait("document.getElementById('shown').textContent.length > 0 && !document.body.classList.contains('waiting')");
    let shown = browser.value("document.getElementById('shown').textContent");
    assert!(!shown.as_str().unwrap().contains("error"), "{shown}");
    let outside = "performance.getEntriesByType('resource').map((r) => new URL(r.name).pathname)\
                   .filter((path) => !path.startsWith('/ops/wsar/')).join(' ')";
    assert_eq!(browser.value(outside), "");
    let failed = "performance.getEntriesByType('resource').filter((r) => r.responseStatus >= 400).map((r) => r.name).join(' ')";
    assert_eq!(browser.value(failed), "");
}
