//! What stands between tags: text and CDATA sections.

use super::{Handler, Mode, Scan, fail};
use crate::chars;
use crate::error::{FramingError, Problem};

impl Scan {
    /// Walks text up to the next `<`. False: the bytes ran out.
    #[inline]
    pub(super) fn text<H: Handler>(&mut self, frame: &[u8], handler: &mut H) -> Result<bool, FramingError> {
        let mut pos = self.pos;
        loop {
            pos = chars::skip_text::<true>(frame, pos);
            let Some(&b) = frame.get(pos) else {
                self.pos = pos;
                return Ok(false);
            };
            match b {
                b'<' => {
                    self.pos = pos;
                    if self.run != pos {
                        let run = &frame[self.run..pos];
                        if self.run_high {
                            chars::check_high(run, self.run)?;
                            self.run_high = false;
                        }
                        handler.text(run);
                        self.run = pos;
                    }
                    return Ok(true);
                }
                b'&' => match chars::reference(frame, pos)? {
                    Some((_, end)) => pos = end,
                    None => {
                        self.pos = pos;
                        return Ok(false);
                    }
                },
                b'>' => {
                    if pos >= self.run + 2 && &frame[pos - 2..pos] == b"]]" {
                        return fail(Problem::CdataEndInText, pos - 2);
                    }
                    pos += 1;
                }
                0x80.. => {
                    self.run_high = true;
                    pos = chars::skip_text::<false>(frame, pos);
                }
                _ => return fail(Problem::ForbiddenCharacter, pos),
            }
        }
    }

    /// At `<!`: only a CDATA section may follow.
    pub(super) fn cdata_start(&mut self, frame: &[u8]) -> Result<bool, FramingError> {
        const START: &[u8] = b"<![CDATA[";
        let have = &frame[self.pos..frame.len().min(self.pos + START.len())];
        if self.open.is_empty() || !START.starts_with(have) {
            return fail(Problem::Restricted, self.pos);
        }
        if have.len() < START.len() {
            return Ok(false);
        }
        self.pos += START.len();
        self.run = self.pos;
        self.mode = Mode::Cdata;
        Ok(true)
    }

    pub(super) fn cdata<H: Handler>(&mut self, frame: &[u8], handler: &mut H) -> Result<bool, FramingError> {
        let mut pos = self.pos;
        loop {
            let Some(&b) = frame.get(pos) else {
                self.pos = pos;
                return Ok(false);
            };
            match b {
                b'>' if pos >= self.run + 2 && &frame[pos - 2..pos] == b"]]" => break,
                0x80.. => self.run_high = true,
                b'\t' | b'\n' | b'\r' | 0x20..0x80 => {}
                _ => return fail(Problem::ForbiddenCharacter, pos),
            }
            pos += 1;
        }
        let content = &frame[self.run..pos - 2];
        if self.run_high {
            chars::check_high(content, self.run)?;
            self.run_high = false;
        }
        handler.cdata(content);
        self.pos = pos + 1;
        self.run = self.pos;
        self.mode = Mode::Content;
        Ok(true)
    }
}
