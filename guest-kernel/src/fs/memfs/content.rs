//! The bytes of a file: pages in memory by index, over the pages of a lower file, over zeroes.

use alloc::collections::BTreeMap;

use super::lower::LowerInode;
use super::node::{Body, Node, State};
use crate::error::{Errno, Result};
use crate::fs::inode::{FilePage, Seek, Timestamp};
use crate::mm::addr::{PAGE, Phys};
use crate::mm::frame::FrameRef;
use crate::mm::user::UserBuffer;

const PAGE_U64: u64 = PAGE as u64;

/// What a regular file holds.
pub(super) struct Content {
    pub(super) size: u64,
    /// Pages in memory. What is beyond the size in the last one is zero.
    pub(super) pages: BTreeMap<u64, FrameRef>,
    /// Bytes of the lower file that still count, where no page in memory hides them.
    pub(super) lower_end: u64,
}

/// Where the bytes at some offset are.
enum Source {
    Page(FrameRef),
    Lower,
    Zero,
}

impl Content {
    /// Where the bytes at `offset` are, and how many there are of that kind.
    fn source(&self, offset: u64) -> (Source, u64) {
        let rest = self.size - offset;
        let index = offset / PAGE_U64;
        let mut until = rest;
        if !self.pages.is_empty() {
            let inside = offset % PAGE_U64;
            match self.pages.range(index..).next() {
                Some((&at, frame)) if at == index => {
                    return (Source::Page(frame.clone()), rest.min(PAGE_U64 - inside));
                }
                Some((&at, _)) => until = rest.min(at * PAGE_U64 - offset),
                None => {}
            }
        }
        match offset < self.lower_end {
            true => (Source::Lower, until.min(self.lower_end - offset)),
            false => (Source::Zero, until),
        }
    }
}

impl Node {
    fn with_content<R>(&self, use_it: impl FnOnce(&mut Content) -> Result<R>) -> Result<R> {
        match &mut self.state.lock().body {
            Body::File(content) => use_it(content),
            Body::Directory(_) => Err(Errno::EISDIR),
            _ => Err(Errno::EINVAL),
        }
    }

    fn lower(&self) -> Result<&LowerInode> {
        self.lower.as_ref().ok_or(Errno::EIO)
    }

    pub(super) fn read_content(&self, offset: u64, buffer: &mut UserBuffer<'_>) -> Result<usize> {
        let mut at = offset;
        while buffer.remaining() > 0 {
            let want = buffer.remaining() as u64;
            let found =
                self.with_content(|content| Ok((at < content.size).then(|| content.source(at))))?;
            let Some((source, len)) = found else { break };
            let len = len.min(want);
            let step = match source {
                Source::Page(frame) => {
                    buffer.fill_from_frame(&frame, (at % PAGE_U64) as usize, len as usize)
                }
                Source::Lower => self.lower()?.copy_to_user(at, len, buffer),
                Source::Zero => buffer.fill_zero(len as usize),
            };
            match step {
                Ok(0) => break,
                Ok(count) => {
                    at += count as u64;
                    if (count as u64) < len {
                        break;
                    }
                }
                Err(errno) if at == offset => return Err(errno),
                Err(_) => break,
            }
        }
        Ok((at - offset) as usize)
    }

    pub(super) fn read_content_kernel(&self, offset: u64, dst: &mut [u8]) -> Result<usize> {
        let mut done = 0;
        while done < dst.len() {
            let at = offset.checked_add(done as u64).ok_or(Errno::EINVAL)?;
            let found =
                self.with_content(|content| Ok((at < content.size).then(|| content.source(at))))?;
            let Some((source, len)) = found else { break };
            let len = len.min((dst.len() - done) as u64) as usize;
            let piece = &mut dst[done..done + len];
            match source {
                Source::Page(frame) => frame.read((at % PAGE_U64) as usize, piece),
                Source::Lower => {
                    self.lower()?.read(at, piece)?;
                }
                Source::Zero => piece.fill(0),
            }
            done += len;
        }
        Ok(done)
    }

    pub(super) fn write_content(&self, offset: u64, buffer: &mut UserBuffer<'_>) -> Result<usize> {
        let wanted = buffer.remaining() as u64;
        let end = offset.checked_add(wanted).filter(|&end| end <= i64::MAX as u64);
        end.ok_or(Errno::EFBIG)?;
        self.hide_lower_tail(offset)?;
        let mut at = offset;
        let mut outcome = Ok(());
        while buffer.remaining() > 0 {
            let inside = (at % PAGE_U64) as usize;
            let len = buffer.remaining().min(PAGE - inside);
            match self.write_page(at / PAGE_U64, inside, len, buffer) {
                Ok(count) => {
                    at += count as u64;
                    self.grow_to(at)?;
                    if count < len {
                        break;
                    }
                }
                Err(errno) => {
                    outcome = Err(errno);
                    break;
                }
            }
        }
        match outcome {
            Err(errno) if at == offset => Err(errno),
            _ => Ok((at - offset) as usize),
        }
    }

    /// Writes into one page; how many bytes arrived.
    fn write_page(
        &self,
        index: u64,
        inside: usize,
        len: usize,
        buffer: &mut UserBuffer<'_>,
    ) -> Result<usize> {
        let (present, lower_len) = self.with_content(|content| {
            Ok((content.pages.get(&index).cloned(), content.lower_bytes(index)))
        })?;
        if let Some(frame) = present {
            return buffer.drain_to_frame(&frame, inside, len);
        }
        // A new page, filled before anybody sees it.
        let frame = FrameRef::zeroed().map_err(|_| Errno::ENOSPC)?;
        let is_covered = lower_len == 0 || inside == 0 && len >= lower_len;
        if !is_covered {
            self.lower()?.copy_to_frame(index, lower_len, &frame)?;
        }
        let count = buffer.drain_to_frame(&frame, inside, len)?;
        if is_covered && count < lower_len {
            // The user's memory ended early: the rest of the page is the lower file's after all.
            let old = FrameRef::zeroed().map_err(|_| Errno::ENOSPC)?;
            self.lower()?.copy_to_frame(index, lower_len, &old)?;
            copy_between(&frame, &old, 0, count);
            return self.insert_page(index, old, inside, count).map(|()| count);
        }
        self.insert_page(index, frame, inside, count)?;
        Ok(count)
    }

    /// Puts a new page into the file. If another one came first, the `len` bytes at `inside` are
    /// copied into that one.
    fn insert_page(&self, index: u64, frame: FrameRef, inside: usize, len: usize) -> Result<()> {
        self.with_content(|content| {
            if let Some(other) = content.pages.get(&index) {
                copy_between(&frame, other, inside, len);
                return Ok(());
            }
            self.fs.charge_page()?;
            content.pages.insert(index, frame);
            Ok(())
        })
    }

    /// Notes that bytes up to `end` were written.
    fn grow_to(&self, end: u64) -> Result<()> {
        let now = Timestamp::now();
        let mut state = self.state.lock();
        state.touch(now);
        match &mut state.body {
            Body::File(content) => content.size = content.size.max(end),
            _ => return Err(Errno::EINVAL),
        }
        Ok(())
    }

    /// Before the file grows from its present size to `offset` or beyond: makes sure that what lies
    /// behind the lower file's last byte in its last page is not seen.
    fn hide_lower_tail(&self, offset: u64) -> Result<()> {
        let index = self.with_content(|content| {
            let cut = content.lower_end == content.size && !content.size.is_multiple_of(PAGE_U64);
            let index = content.size / PAGE_U64;
            Ok((cut && offset > content.size && !content.pages.contains_key(&index))
                .then_some(index))
        })?;
        match index {
            Some(index) => self.page_in_memory(index).map(|_| ()),
            None => Ok(()),
        }
    }

    /// The page as one of this file's own, copied from below or fresh.
    fn page_in_memory(&self, index: u64) -> Result<FrameRef> {
        let (present, lower_len) = self.with_content(|content| {
            Ok((content.pages.get(&index).cloned(), content.lower_bytes(index)))
        })?;
        if let Some(frame) = present {
            return Ok(frame);
        }
        let frame = FrameRef::zeroed().map_err(|_| Errno::ENOSPC)?;
        if lower_len > 0 {
            self.lower()?.copy_to_frame(index, lower_len, &frame)?;
        }
        let mut state = self.state.lock();
        state.changed = true;
        let Body::File(content) = &mut state.body else { return Err(Errno::EINVAL) };
        if let Some(other) = content.pages.get(&index) {
            return Ok(other.clone());
        }
        self.fs.charge_page()?;
        content.pages.insert(index, frame.clone());
        Ok(frame)
    }

    pub(super) fn truncate_content(&self, size: u64) -> Result<()> {
        if size > i64::MAX as u64 {
            return Err(Errno::EFBIG);
        }
        self.hide_lower_tail(size)?;
        // The page that the file will end in: its rest must be zero.
        let last = size / PAGE_U64;
        let inside = (size % PAGE_U64) as usize;
        let shrinks = self.with_content(|content| Ok(size < content.size))?;
        let now = Timestamp::now();
        let mut dropped = BTreeMap::new();
        let mut state = self.state.lock();
        state.touch(now);
        let Body::File(content) = &mut state.body else { return Err(Errno::EINVAL) };
        if shrinks {
            dropped = content.pages.split_off(&size.div_ceil(PAGE_U64));
            if inside > 0
                && let Some(frame) = content.pages.get(&last)
            {
                frame.zero(inside, PAGE - inside);
            }
            content.lower_end = content.lower_end.min(size);
        }
        content.size = size;
        drop(state);
        self.fs.release_pages(dropped.len() as u64);
        Ok(())
    }

    pub(super) fn allocate_content(&self, offset: u64, len: u64) -> Result<()> {
        let end = offset.checked_add(len).filter(|&end| end <= i64::MAX as u64);
        let end = end.ok_or(Errno::EFBIG)?;
        for index in offset / PAGE_U64..end.div_ceil(PAGE_U64) {
            if self.with_content(|content| Ok(content.lower_bytes(index) == 0))? {
                self.page_in_memory(index)?;
            }
        }
        Ok(())
    }

    pub(super) fn punch_content(&self, offset: u64, len: u64) -> Result<()> {
        let size = self.with_content(|content| Ok(content.size))?;
        let end = offset.checked_add(len).ok_or(Errno::EFBIG)?.min(size);
        let mut at = offset;
        while at < end {
            let (index, inside) = (at / PAGE_U64, at % PAGE_U64);
            let next = end.min((index + 1) * PAGE_U64);
            let whole = inside == 0 && (next % PAGE_U64 == 0 || next == size);
            let (present, lower_len) = self.with_content(|content| {
                let present = content.pages.contains_key(&index);
                Ok((present, content.lower_bytes(index)))
            })?;
            if whole && lower_len == 0 {
                let page = self.with_content(|content| Ok(content.pages.remove(&index)))?;
                self.fs.release_pages(u64::from(page.is_some()));
            } else if present || lower_len > 0 {
                let frame = self.page_in_memory(index)?;
                frame.zero(inside as usize, (next - at) as usize);
            }
            at = next;
        }
        self.state.lock().touch(Timestamp::now());
        Ok(())
    }

    pub(super) fn seek_content(&self, offset: u64, what: Seek) -> Result<u64> {
        self.with_content(|content| {
            if offset >= content.size {
                return Err(Errno::ENXIO);
            }
            let mut at = offset;
            while at < content.size {
                let (source, len) = content.source(at);
                let is_hole = matches!(source, Source::Zero);
                if is_hole == (what == Seek::Hole) {
                    return Ok(at);
                }
                at += len;
            }
            if what == Seek::Hole { Ok(content.size) } else { Err(Errno::ENXIO) }
        })
    }

    pub(super) fn content_page(&self, index: u64) -> Result<FilePage> {
        let lower_len = self.with_content(|content| {
            if index.checked_mul(PAGE_U64).is_none_or(|start| start >= content.size) {
                return Err(Errno::ENXIO);
            }
            Ok(match content.pages.get(&index) {
                Some(frame) => Err(frame.clone()),
                None => Ok((content.lower_bytes(index), content.lower_end)),
            })
        })?;
        match lower_len {
            Err(frame) => Ok(FilePage::Frame(frame)),
            Ok((0, _)) => self.page_in_memory(index).map(FilePage::Frame),
            // Whole, or cut where the lower file ends anyway: its own page.
            Ok((len, lower_end)) if len == PAGE || lower_end == self.lower()?.inode.size => {
                self.lower()?.page(index)
            }
            Ok(_) => self.page_in_memory(index).map(FilePage::Frame),
        }
    }

    pub(super) fn content_page_for_write(&self, index: u64) -> Result<FrameRef> {
        self.with_content(|content| match index.checked_mul(PAGE_U64) {
            Some(start) if start < content.size => Ok(()),
            _ => Err(Errno::ENXIO),
        })?;
        let frame = self.page_in_memory(index)?;
        self.state.lock().touch(Timestamp::now());
        Ok(frame)
    }

    pub(super) fn content_run(&self, index: u64) -> Option<(Phys, u64)> {
        let lower = self.lower.as_ref()?;
        let page_count_max = self
            .with_content(|content| {
                let next = content.pages.range(index..).next().map(|(&at, _)| at);
                let end = match content.lower_end == lower.inode.size {
                    true => content.lower_end.div_ceil(PAGE_U64),
                    false => content.lower_end / PAGE_U64,
                };
                Ok(next.unwrap_or(u64::MAX).min(end).saturating_sub(index))
            })
            .ok()?;
        lower.run(index, page_count_max)
    }
}

impl Content {
    /// How many bytes of a page are the lower file's, were it not hidden.
    fn lower_bytes(&self, index: u64) -> usize {
        let start = index.saturating_mul(PAGE_U64);
        self.lower_end.saturating_sub(start).min(PAGE_U64) as usize
    }
}

impl State {
    /// The contents changed.
    pub(super) fn touch(&mut self, now: Timestamp) {
        self.mtime = now;
        self.ctime = now;
        self.changed = true;
    }
}

/// Copies a range of a frame to the same place in another.
fn copy_between(from: &FrameRef, to: &FrameRef, start: usize, len: usize) {
    let mut bytes = [0; 64];
    let mut at = start;
    while at < start + len {
        let step = bytes.len().min(start + len - at);
        from.read(at, &mut bytes[..step]);
        to.write(at, &bytes[..step]);
        at += step;
    }
}
