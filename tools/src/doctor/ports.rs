//! Whether the server's addresses are free.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};

use super::{Finding, Patient};

/// Looks at each address. A running server has them itself.
pub(super) fn check(patient: &Patient) -> Vec<Finding> {
    let addresses = patient.listen.iter().chain(&patient.listen_tls);
    if patient.pid.is_some() {
        return addresses
            .map(|address| Finding::good("port", format!("{address} is the server's")))
            .collect();
    }
    addresses.map(|&address| judge(address, TcpListener::bind(address).err())).collect()
}

fn judge(address: SocketAddr, error: Option<std::io::Error>) -> Finding {
    let check = "port";
    let Some(error) = error else { return Finding::good(check, format!("{address} is free")) };
    match error.kind() {
        ErrorKind::AddrInUse => {
            let text = format!("{address} is in use by another program; this shows which one");
            let port = address.port();
            let command = if cfg!(target_os = "freebsd") {
                format!("sockstat -l -p {port}")
            } else {
                format!("ss -ltnp 'sport = :{port}'")
            };
            Finding::mend(check, text, command)
        }
        ErrorKind::AddrNotAvailable => {
            let text = format!("this machine has no address {}; these are there", address.ip());
            Finding::mend(check, text, if cfg!(target_os = "freebsd") { "ifconfig" } else { "ip address" })
        }
        ErrorKind::PermissionDenied => Finding::note(
            check,
            format!("{address} needs root: start the server as root and set `user` in its configuration"),
        ),
        _ => Finding::note(check, format!("{address} cannot be tried: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    #[test]
    fn a_port_in_use_is_found_and_a_free_one_is_good() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let patient = |pid| Patient { pid, listen: vec![address], ..Patient::default() };
        assert_eq!(check(&patient(None))[0].level, Level::Mend);
        assert_eq!(check(&patient(Some(1)))[0].level, Level::Good);
        drop(taken);
        assert_eq!(check(&patient(None))[0].level, Level::Good);
    }
}
