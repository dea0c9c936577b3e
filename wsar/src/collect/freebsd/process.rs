//! The server's process, by kern.proc.pid.

use std::io;

use crate::collect::{Source, metric, strange};
use crate::sample::{Description, Kind, Sink};

const RESIDENT: Description =
    metric("process.memory.resident", Kind::Gauge, "bytes", "Memory of the server.");
const THREADS: Description = metric("process.threads", Kind::Gauge, "threads", "Threads of the server.");

pub(super) struct Process;

impl Source for Process {
    fn name(&self) -> &'static str {
        "process"
    }

    fn collect(&mut self, process: Option<u32>, sink: &mut Sink) -> io::Result<()> {
        let Some(pid) = process else { return Ok(()) };
        let pid = libc::c_int::try_from(pid).map_err(|_| strange("a process number that cannot be"))?;
        let name = [libc::CTL_KERN, libc::KERN_PROC, libc::KERN_PROC_PID, pid];
        let mut info = std::mem::MaybeUninit::<libc::kinfo_proc>::zeroed();
        let mut length = size_of::<libc::kinfo_proc>();
        // SAFETY: the name has four parts, and the buffer as many bytes as said.
        let read = unsafe {
            libc::sysctl(
                name.as_ptr(),
                name.len() as libc::c_uint,
                info.as_mut_ptr().cast(),
                &raw mut length,
                std::ptr::null(),
                0,
            )
        };
        if read != 0 {
            return Err(io::Error::last_os_error());
        }
        if length != size_of::<libc::kinfo_proc>() {
            return Err(strange("kern.proc.pid: a process of another size; this kernel is not supported"));
        }
        // SAFETY: numbers, arrays and pointers that are not followed, all zero at first and then filled.
        let info = unsafe { info.assume_init() };
        // SAFETY: no arguments but a constant.
        let page = u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096);
        sink.put(&RESIDENT, u64::try_from(info.ki_rssize).unwrap_or(0).saturating_mul(page));
        sink.put(&THREADS, u64::try_from(info.ki_numthreads).unwrap_or(0));
        Ok(())
    }
}
