//! Segments that are written anew without some texts: by the keeper, as a file that takes the place of the old one. Positions
//! and all other bytes stay, so the worker has only to look at the new file.

use super::super::error::LogError;
use super::super::format::message::Position;
use super::segment::{Segment, find};
use super::shared::{Rewrite, Rewritten};
use super::{Journal, Purpose};
use crate::journal::format::segment::HEADER_BYTES;

impl Journal {
    /// Goes on to the next segment, unless nothing but a mark is in the last one. Returns where it begins.
    pub(crate) fn seal_segment(&mut self) -> Option<Position> {
        if self.shared.has_failed() {
            return None;
        }
        // A segment begins with a mark, and an idle journal writes them.
        if self.offset > 2 * HEADER_BYTES as u64 && self.roll(Purpose::Upkeep).is_err() {
            return None;
        }
        self.segments.back().map(|segment| Position(segment.base))
    }

    /// Hands a segment to the keeper.
    pub(crate) fn erase_texts(&mut self, segment: Position, positions: Vec<Position>) -> bool {
        let is_last = self.segments.back().is_none_or(|last| last.base == segment.0);
        let found = find(&self.segments, segment.0).and_then(|at| self.segments.get(at));
        let Some(found) = found.filter(|found| found.base == segment.0) else { return false };
        // Nothing of it may be on its way to the disk: the old file is not synced any more.
        if is_last || self.shared.committed() < found.end() {
            return false;
        }
        let Segment { base, path, .. } = found;
        let rewrite = Rewrite { log_id: self.id(), base: *base, path: path.clone(), positions };
        self.shared.put_rewrite(rewrite)
    }

    /// Looks at the new file of a segment that the keeper has written anew.
    pub(crate) fn texts_erased(&mut self) -> Option<Result<usize, LogError>> {
        let Rewritten { base, texts, done } = self.shared.take_rewritten()?;
        Some(done.map(|map| {
            let at = find(&self.segments, base);
            if let (Some(at), Some(map)) = (at, map) {
                self.segments[at].map = map;
            }
            texts
        }))
    }
}
