//! A server on another machine, by the `/metrics` of its `wsar serve`: CPU time and memory, as fresh as wsar's last sample.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use crate::sample::process::Process;

/// How long a connect, and each read, may take; the run goes on meanwhile.
const PATIENCE: Duration = Duration::from_secs(1);

/// Bytes of an answer.
const ANSWER_BYTES_MAX: u64 = 16 << 20;

/// The environment variable that has the token, as for wsar itself.
const TOKEN: &str = "WSAR_TOKEN";

/// Where the figures are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Metrics {
    /// Host and port.
    authority: String,
    path: String,
}

impl std::str::FromStr for Metrics {
    type Err = String;

    fn from_str(url: &str) -> Result<Metrics, String> {
        let rest = url.strip_prefix("http://").ok_or("the address begins with http://")?;
        let (authority, path) = rest.split_once('/').unwrap_or((rest, "metrics"));
        if !authority
            .rsplit_once(':')
            .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
        {
            return Err("the address has host and port, as in http://192.0.2.1:9522/metrics".into());
        }
        let path = if path.is_empty() { "metrics" } else { path };
        Ok(Metrics { authority: authority.to_owned(), path: format!("/{path}") })
    }
}

impl Metrics {
    /// Fetches them; what the server does not tell is zero.
    ///
    /// # Errors
    /// There is no answer, it is a refusal, or it is not about a running server.
    pub(crate) fn fetch(&self) -> Result<Process, String> {
        let failed =
            |error: std::io::Error| format!("no answer from http://{}{}: {error}", self.authority, self.path);
        let mut addresses = self.authority.to_socket_addrs().map_err(failed)?;
        let address = addresses.next().ok_or_else(|| format!("{} has no address", self.authority))?;
        let mut socket = TcpStream::connect_timeout(&address, PATIENCE).map_err(failed)?;
        socket.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
        let token =
            std::env::var(TOKEN).map_or(String::new(), |token| format!("Authorization: Bearer {token}\r\n"));
        let request = format!(
            "GET {} HTTP/1.0\r\nHost: {}\r\nAccept: text/plain\r\n{token}Connection: close\r\n\r\n",
            self.path, self.authority
        );
        socket.write_all(request.as_bytes()).map_err(failed)?;
        let mut answer = Vec::new();
        socket.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).map_err(failed)?;
        let answer = String::from_utf8_lossy(&answer);
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&*answer, ""));
        let status = head.lines().next().unwrap_or_default();
        if status.split(' ').nth(1) != Some("200") {
            return Err(format!("http://{}{} says {status:?}", self.authority, self.path));
        }
        parse(body)
            .ok_or_else(|| format!("http://{}{} tells of no running server", self.authority, self.path))
    }
}

/// The figures of the server's process, by the names that wsar gives them.
fn parse(body: &str) -> Option<Process> {
    // Of a figure with labels there may be several.
    let sum = |name: &str| -> Option<f64> {
        let values = body.lines().filter_map(|line| {
            let rest = line.strip_prefix(name)?;
            let value = match rest.strip_prefix('{') {
                Some(labelled) => labelled.rsplit_once("} ")?.1,
                None => rest.strip_prefix(' ')?,
            };
            value.split(' ').next()?.parse::<f64>().ok()
        });
        values.reduce(|sum, value| sum + value)
    };
    Some(Process {
        user_seconds: sum("whimbrel_server_cpu_user_seconds_total")?,
        system_seconds: sum("whimbrel_server_cpu_system_seconds_total")?,
        rss_bytes: sum("system_process_memory_resident_bytes").unwrap_or(0.0) as u64,
        anon_bytes: sum("system_process_memory_anonymous_bytes").unwrap_or(0.0) as u64,
        ..Process::default()
    })
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn an_address_names_host_and_port() {
        let parsed = "http://192.0.2.1:9522/metrics".parse::<Metrics>().unwrap();
        assert_eq!((&*parsed.authority, &*parsed.path), ("192.0.2.1:9522", "/metrics"));
        assert_eq!("http://h:1".parse::<Metrics>(), "http://h:1/metrics".parse());
        assert_eq!("http://[::1]:1/wsar/metrics".parse::<Metrics>().unwrap().path, "/wsar/metrics");
        for wrong in ["https://h:1/", "h:1", "http://h/metrics", "http://:1/", "http://h:x/"] {
            assert!(wrong.parse::<Metrics>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn figures_are_found_by_their_whole_names_and_labels_are_summed() {
        let body = "# TYPE whimbrel_server_cpu_user_seconds_total counter\n\
            whimbrel_server_cpu_user_seconds_total_of_others 99\n\
            whimbrel_server_cpu_user_seconds_total 1.5\n\
            whimbrel_server_cpu_system_seconds_total{worker=\"a} b\"} 0.25 1700000000\n\
            whimbrel_server_cpu_system_seconds_total{worker=\"1\"} 0.5\n\
            system_process_memory_anonymous_bytes 4096\n";
        let process = parse(body).unwrap();
        assert!((process.user_seconds - 1.5).abs() < 1e-9 && (process.system_seconds - 0.75).abs() < 1e-9);
        assert_eq!((process.anon_bytes, process.rss_bytes), (4096, 0));
        assert_eq!(parse("whimbrel_up 0\n"), None);
    }

    #[test]
    fn refusals_and_silence_are_told() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let metrics: Metrics = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
        let server = std::thread::spawn(move || {
            for answer in ["HTTP/1.1 403 Forbidden\r\n\r\nno", "HTTP/1.1 200 OK\r\n\r\nwhimbrel_up 0\n"] {
                let (mut socket, _) = listener.accept().unwrap();
                let mut request = [0; 1024];
                assert!(socket.read(&mut request).unwrap() > 0);
                socket.write_all(answer.as_bytes()).unwrap();
            }
        });
        assert!(metrics.fetch().unwrap_err().contains("403"));
        assert!(metrics.fetch().unwrap_err().contains("no running server"));
        server.join().unwrap();
        assert!(metrics.fetch().unwrap_err().contains("no answer"));
    }
}
