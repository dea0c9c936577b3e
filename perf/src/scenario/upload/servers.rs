//! whimbreld and nginx for this scenario, each on a folder of its own, ended when they are dropped.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::Place;
use crate::cli::{Tls, UploadArgs};
use crate::peers::running::find_program;
use crate::peers::whimbrel;

/// How long a server may take to listen, and to say anything.
const PATIENCE: Duration = Duration::from_secs(60);

/// A password.
const PASSWORD: &str = "perf";

fn failed(what: &str, error: &dyn std::fmt::Display) -> String {
    format!("cannot {what}: {error}")
}

fn free_port() -> Result<u16, String> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(|error| failed("find a port", &error))?;
    listener.local_addr().map(|address| address.port()).map_err(|error| failed("find a port", &error))
}

/// A process that ends with this.
struct Program {
    child: Child,
    log: PathBuf,
}

impl Program {
    /// Starts it, and waits until it listens.
    fn start(mut command: Command, log: &Path, port: u16) -> Result<Program, String> {
        let file = fs::File::create(log).map_err(|error| failed("write a log", &error))?;
        let err = file.try_clone().map_err(|error| failed("write a log", &error))?;
        command.stdin(Stdio::null()).stdout(file).stderr(err);
        let child = command.spawn().map_err(|error| failed("start a server", &error))?;
        let mut program = Program { child, log: log.to_owned() };
        let since = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            let has_ended = !matches!(program.child.try_wait(), Ok(None));
            if has_ended || since.elapsed() > PATIENCE {
                let said = fs::read_to_string(&program.log).unwrap_or_default();
                return Err(format!("a server does not start: {said}"));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(program)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended. SIGTERM, so that nginx ends its workers.
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let since = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) && since.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The server, with one account.
pub(super) struct Whimbrel {
    _program: Program,
    /// Of HTTP.
    pub(super) port: u16,
    xmpp: u16,
    data: PathBuf,
}

impl Whimbrel {
    /// Starts it.
    ///
    /// # Errors
    /// It is not there, or does not start.
    pub(super) fn start(args: &UploadArgs, folder: &Path) -> Result<Whimbrel, String> {
        fs::create_dir(folder).map_err(|error| failed("make a folder", &error))?;
        let data = folder.join("data");
        let ctl = whimbrel::program(args.programs.whimbrelctl.as_deref(), "whimbrelctl")?;
        let made = Command::new(ctl)
            .arg("--data")
            .arg(&data)
            .args(["user", "add", "--create", "perf@localhost", "--password", PASSWORD])
            .output()
            .map_err(|error| failed("run whimbrelctl", &error))?;
        if !made.status.success() {
            return Err(format!("whimbrelctl: {}", String::from_utf8_lossy(&made.stderr)));
        }
        let (port, xmpp) = (free_port()?, free_port()?);
        let most = u32::MAX;
        let config = format!(
            "allow_plaintext = true\nlisten = ['127.0.0.1:{xmpp}']\nlisten_tls = []\n[http]\nlisten = ['127.0.0.1:{port}']\n\
             tls = {}\nrequests_per_minute = {most}\nconnections_per_address = 4096\n[upload]\nfile_mib_max = {most}\nmib_max = {most}\n\
             mib_left_free = 0\naccount_mib_max = {most}\naccount_files_max = 100000\naccount_mib_per_day = {most}\n\
             account_files_per_day = {most}\naccount_slots_max = {most}\ntransfers_max = 4096\ntransfers_per_address = 4096\n",
            args.tls == Tls::Direct
        );
        let path = folder.join("whimbrel.toml");
        fs::write(&path, config).map_err(|error| failed("write a configuration", &error))?;
        let mut command = Command::new(whimbrel::program(args.programs.whimbreld.as_deref(), "whimbreld")?);
        command.arg("--data").arg(&data).arg("--config").arg(&path);
        let program = Program::start(command, &folder.join("log"), port)?;
        Ok(Whimbrel { _program: program, port, xmpp, data })
    }

    /// Slots for a round.
    ///
    /// # Errors
    /// The server does not give them.
    pub(super) fn places(&self, args: &UploadArgs, bytes: usize) -> Result<Vec<Place>, String> {
        let mut stream = Stream::log_in(self.xmpp)?;
        let ask = format!(
            "<iq type='get' id='s' to='upload.localhost'><request xmlns='urn:xmpp:http:upload:0' filename='a.bin' size='{bytes}' \
             content-type='application/octet-stream'/></iq>"
        );
        (0..args.files)
            .map(|_| {
                let said = stream.ask(&ask, "</iq>")?;
                let path = |part: &str| {
                    let (_, rest) = said.split_once(&format!("<{part} url=\""))?;
                    let url = rest.split('"').next()?.replace("&amp;", "&");
                    Some(url[url.find("/upload/")?..].to_owned())
                };
                let place = path("put").zip(path("get")).map(|(put, get)| Place { put, get });
                place.ok_or_else(|| format!("the server gives no slot: {said}"))
            })
            .collect()
    }
}

/// A stream that asks one thing after another.
struct Stream(TcpStream);

impl Stream {
    fn log_in(port: u16) -> Result<Stream, String> {
        let socket = TcpStream::connect(("127.0.0.1", port)).map_err(|error| failed("connect", &error))?;
        socket.set_read_timeout(Some(PATIENCE)).map_err(|error| failed("connect", &error))?;
        let mut stream = Stream(socket);
        let open = "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' to='localhost' version='1.0'>";
        stream.ask(open, "</stream:features>")?;
        let plain = STANDARD.encode(format!("\0perf\0{PASSWORD}"));
        stream.ask(
            &format!("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{plain}</auth>"),
            "<success",
        )?;
        stream.ask(open, "</stream:features>")?;
        stream.ask("<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>", "</iq>")?;
        Ok(stream)
    }

    /// Says something, and hears until a text has come.
    fn ask(&mut self, text: &str, wanted: &str) -> Result<String, String> {
        self.0.write_all(text.as_bytes()).map_err(|error| failed("write", &error))?;
        let mut heard = String::new();
        let mut piece = [0; 4096];
        while !heard.contains(wanted) {
            match self.0.read(&mut piece) {
                Ok(count) if count > 0 => heard += &String::from_utf8_lossy(&piece[..count]),
                Ok(_) => return Err(format!("the server has ended the stream: {heard}")),
                Err(error) => return Err(format!("the server does not answer: {error}: {heard}")),
            }
        }
        Ok(heard)
    }
}

/// nginx, with its module for WebDAV.
pub(super) struct Nginx {
    _program: Program,
    /// Where it listens.
    pub(super) port: u16,
}

impl Nginx {
    /// Starts it, with the server's certificate where there is to be TLS.
    ///
    /// # Errors
    /// It is not installed, or does not start.
    pub(super) fn start(args: &UploadArgs, folder: &Path, server: &Whimbrel) -> Result<Nginx, String> {
        let program = match &args.nginx {
            Some(path) => path.clone(),
            None => find_program("nginx", "nginx")?,
        };
        fs::create_dir_all(folder.join("files")).map_err(|error| failed("make a folder", &error))?;
        let (port, at) = (free_port()?, folder.display());
        let tls = server.data.join("tls");
        let listen = match args.tls == Tls::Direct {
            true => format!(
                "listen 127.0.0.1:{port} ssl; ssl_certificate {}; ssl_certificate_key {};",
                tls.join("self-signed.pem").display(),
                tls.join("self-signed.key").display()
            ),
            false => format!("listen 127.0.0.1:{port};"),
        };
        // Its workers would give up what a root has.
        let user = if fs::metadata("/proc/self").is_ok_and(|own| is_root(&own)) { "user root;" } else { "" };
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("{kind}_temp_path {at}/{kind};"))
            .concat();
        let config = format!(
            "{user} daemon off; worker_processes auto; pid {at}/pid; error_log {at}/log; events {{ worker_connections 4096; }}\n\
             http {{ access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000; {temporary}\n\
             server {{ {listen} root {at}/files; client_max_body_size 0; location / {{ dav_methods PUT; }} }} }}\n"
        );
        let path = folder.join("nginx.conf");
        fs::write(&path, config).map_err(|error| failed("write a configuration", &error))?;
        let mut command = Command::new(program);
        command.arg("-c").arg(&path).arg("-p").arg(folder).arg("-e").arg(folder.join("log"));
        let program = Program::start(command, &folder.join("output"), port)?;
        Ok(Nginx { _program: program, port })
    }

    /// Names of files for a round.
    pub(super) fn places(&self, args: &UploadArgs, round: u32) -> Vec<Place> {
        let path = |number: u32| format!("/{round}-{number}.bin");
        (0..args.files).map(|number| Place { put: path(number), get: path(number) }).collect()
    }
}

fn is_root(own: &fs::Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    own.uid() == 0
}
