//! Network interfaces, by getifaddrs(3).

use std::ffi::CStr;
use std::io;

use crate::collect::{Source, metric};
use crate::sample::{Description, Kind, Sink};

const fn count(name: &'static str, unit: &'static str, help: &'static str) -> Description {
    metric(name, Kind::Counter, unit, help)
}

const COUNTS: [Description; 8] = [
    count("net.in.bytes", "bytes", "Bytes that an interface received."),
    count("net.in.packets", "packets", "Packets that an interface received."),
    count("net.in.errors", "packets", "Packets that an interface received damaged."),
    count("net.in.dropped", "packets", "Packets that were received and dropped for want of room."),
    count("net.out.bytes", "bytes", "Bytes that an interface sent."),
    count("net.out.packets", "packets", "Packets that an interface sent."),
    count("net.out.errors", "packets", "Packets that could not be sent."),
    count("net.out.dropped", "packets", "Packets that were dropped instead of being sent."),
];

pub(super) struct Network;

/// A list that is freed when it is dropped.
struct Interfaces(*mut libc::ifaddrs);

impl Drop for Interfaces {
    fn drop(&mut self) {
        // SAFETY: the list came from getifaddrs and is freed once.
        unsafe { libc::freeifaddrs(self.0) };
    }
}

impl Source for Network {
    fn name(&self) -> &'static str {
        "network"
    }

    fn collect(&mut self, _: Option<u32>, sink: &mut Sink) -> io::Result<()> {
        let mut list = std::ptr::null_mut();
        // SAFETY: the pointer is to a pointer of ours.
        if unsafe { libc::getifaddrs(&raw mut list) } != 0 {
            return Err(io::Error::last_os_error());
        }
        let list = Interfaces(list);
        let mut next = list.0;
        while !next.is_null() {
            // SAFETY: an entry of the list, which lives until `list` is dropped.
            let entry = unsafe { &*next };
            next = entry.ifa_next;
            if entry.ifa_addr.is_null() || entry.ifa_data.is_null() {
                continue;
            }
            // SAFETY: not null, and an address of that entry.
            if i32::from(unsafe { (*entry.ifa_addr).sa_family }) != libc::AF_LINK {
                continue;
            }
            // SAFETY: the name ends with NUL; the data of a link-level entry is an if_data.
            let (name, data) = unsafe {
                (CStr::from_ptr(entry.ifa_name), entry.ifa_data.cast::<libc::if_data>().read_unaligned())
            };
            let name = name.to_string_lossy();
            let values = [
                data.ifi_ibytes,
                data.ifi_ipackets,
                data.ifi_ierrors,
                data.ifi_iqdrops,
                data.ifi_obytes,
                data.ifi_opackets,
                data.ifi_oerrors,
                data.ifi_oqdrops,
            ];
            for (what, value) in COUNTS.iter().zip(values) {
                sink.put_at(what, "interface", &name, value);
            }
        }
        Ok(())
    }
}
