//! The nick of an occupant: ten bytes, and a block of memory that is as long as the nick. A `Box<str>` has sixteen, and there are
//! millions of occupants.

use std::fmt;
use std::ops::Deref;
use std::ptr::NonNull;

/// A nick, normalised.
// Packed: no more is aligned than a length.
#[repr(Rust, packed(2))]
pub struct Nick {
    /// Where the text begins. It is that of a `Box<str>` of `length` bytes, owned by nobody else.
    start: NonNull<u8>,
    length: u16,
}

// The memory budget of a room rests on this size (docs/performance.md).
const _: () = assert!(size_of::<Nick>() == 10);

// SAFETY: it owns its text as a `Box<str>` does, which is `Send`.
unsafe impl Send for Nick {}
// SAFETY: a shared reference gives nothing but `&str`, which is `Sync`.
unsafe impl Sync for Nick {}

impl From<&str> for Nick {
    fn from(nick: &str) -> Nick {
        let length = u16::try_from(nick.len()).expect("a part of a JID has 1,023 bytes at most");
        let start = NonNull::from(Box::leak(Box::<str>::from(nick))).cast();
        Nick { start, length }
    }
}

impl Clone for Nick {
    fn clone(&self) -> Nick {
        Nick::from(&**self)
    }
}

impl Deref for Nick {
    type Target = str;

    fn deref(&self) -> &str {
        let (start, length) = (self.start, usize::from(self.length));
        // SAFETY: there are so many bytes, they are UTF-8, and they live and do not change as long as `self`.
        unsafe { std::str::from_utf8_unchecked(std::slice::from_raw_parts(start.as_ptr(), length)) }
    }
}

impl Drop for Nick {
    fn drop(&mut self) {
        let (start, length) = (self.start, usize::from(self.length));
        let text = std::ptr::slice_from_raw_parts_mut(start.as_ptr(), length);
        // SAFETY: the text came out of a box of this length, and nobody else has it; a box of bytes has the layout of one of text.
        drop(unsafe { Box::<[u8]>::from_raw(text) });
    }
}

impl fmt::Debug for Nick {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nicks_are_what_they_were_made_of() {
        let long = "n".repeat(1023);
        for text in ["", "j", "sixteen bytes ok", "Jul\u{e9}", &long] {
            let nick = Nick::from(text);
            let copy = nick.clone();
            assert_ne!((text, copy.as_ptr()), ("j", nick.as_ptr()), "each has its own");
            drop(nick);
            assert_eq!((&*copy, format!("{copy:?}")), (text, format!("{text:?}")));
        }
    }

    #[test]
    fn a_nick_may_go_on_another_thread_and_be_missing() {
        let nick = Some(Nick::from("juliet"));
        assert_eq!(size_of_val(&nick), size_of::<Nick>());
        assert_eq!(std::thread::spawn(move || nick.map(|nick| nick.len())).join().unwrap(), Some(6));
    }
}
