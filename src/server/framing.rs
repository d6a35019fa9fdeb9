//! A look at request framing that hyper's server hides.
//!
//! hyper drops a `Content-Length` that stands beside `Transfer-Encoding` and takes a bare line feed for a line end, both
//! before a service sees the request. Behind another proxy either may be an attempt at request smuggling (RFC 9112 §11.2).
//! So this file watches the bytes that hyper reads, follows the bounds of requests as hyper does, and notes one [`Framing`]
//! per head.
//!
//! What is wrong in a head it notes, and others decide. What it cannot follow there ends the watch, and from then on no head
//! has a finding: hyper refuses the same by itself. A chunked body that is malformed ends where it is: hyper is laxer (it
//! takes `0\r\n\n` for the end of no body, and swallows the next request as trailers), so it gets no byte more. No byte of a
//! request is kept.

use std::collections::VecDeque;

use crate::proxy::request::Framing;

use chunked::{Chunked, Progress};
use field::{Coding, Length, Name};

mod chunked;
mod field;
mod io;

pub use io::{Findings, WatchedIo};

/// How many heads may wait for their requests to be served. A client that pipelines more ends the watch.
const MAX_WAITING_HEADS: usize = 1024;

/// Follows one connection's requests, in whatever pieces their bytes come.
#[derive(Debug, Default)]
pub struct FramingWatch {
    state: State,
    head: Head,
    /// Whether the last byte of the line being read is a carriage return.
    after_cr: bool,
    /// Whether anything has come since the last head.
    is_begun: bool,
    findings: VecDeque<Framing>,
}

/// What is known of the head being read.
#[derive(Debug, Default)]
struct Head {
    has_length: bool,
    length_bytes: Option<u64>,
    has_transfer_encoding: bool,
    is_chunked: bool,
    bare_line_feed: bool,
}

#[derive(Clone, Copy, Debug, Default)]
enum State {
    /// Before a request line, where empty lines are skipped.
    #[default]
    BeforeHead,
    /// At the start of a field line, or in the empty line that ends the head.
    LineStart,
    /// In a field's name.
    Name(Name),
    /// In the value of `Content-Length`.
    Length(Length),
    /// In the value of `Transfer-Encoding`.
    TransferEncoding(Coding),
    /// In what is left of a line that says nothing about framing.
    Line,
    /// In a body of which this many bytes are to come.
    Body(u64),
    /// In a chunked body.
    Chunked(Chunked),
    /// What came is no request, or cannot be followed.
    Lost,
    /// A chunked body was malformed.
    Malformed,
}

impl FramingWatch {
    /// Takes the next bytes of the connection, and returns how many of them may be read: all, but for a chunked body that
    /// is malformed.
    pub fn feed(&mut self, bytes: &[u8]) -> usize {
        let mut rest = bytes;
        while !rest.is_empty() {
            rest = match self.state {
                State::Line => self.skip_lines(rest),
                State::Body(remaining) => self.skip_body(rest, remaining),
                State::Chunked(chunked) => self.skip_chunked(rest, chunked),
                State::Lost => break,
                State::Malformed => return bytes.len() - rest.len(),
                State::LineStart if !self.after_cr => self.start_line(rest),
                State::BeforeHead
                | State::LineStart
                | State::Name(_)
                | State::Length(_)
                | State::TransferEncoding(_) => self.read_head(rest),
            };
        }
        bytes.len()
    }

    /// Whether no byte of a request has come that was not asked for, nor any after the last one's end.
    pub fn is_between_requests(&self) -> bool {
        matches!(self.state, State::BeforeHead) && !self.is_begun && self.findings.is_empty()
    }

    /// Ends the watch: what follows is no HTTP.
    pub fn end(&mut self) {
        *self = Self { state: State::Lost, ..Self::default() };
    }

    /// Takes the finding about the first head that has not been asked for. `None`: there is no such head, or the watch has
    /// lost its way.
    pub fn next_finding(&mut self) -> Option<Framing> {
        self.findings.pop_front()
    }

    /// Reads a name at once if it is all there.
    fn start_line<'b>(&mut self, bytes: &'b [u8]) -> &'b [u8] {
        let Some((name, rest)) = Name::split_off(bytes) else { return self.read_head(bytes) };
        self.state = self.start_value(name);
        rest
    }

    /// Reads bytes one by one, as long as they matter.
    fn read_head<'b>(&mut self, bytes: &'b [u8]) -> &'b [u8] {
        let mut rest = bytes;
        while let Some((&byte, after)) = rest.split_first() {
            self.state = match self.state {
                State::BeforeHead => self.before_head(byte),
                State::LineStart => self.line_start(byte),
                State::Name(name) => self.name(name, byte),
                State::Length(length) => self.length(length, byte),
                State::TransferEncoding(coding) => self.transfer_encoding(coding, byte),
                State::Line | State::Body(_) | State::Chunked(_) | State::Lost | State::Malformed => {
                    return rest;
                }
            };
            rest = after;
        }
        rest
    }

    fn before_head(&mut self, byte: u8) -> State {
        self.is_begun = true;
        match byte {
            b'\n' => {
                self.end_line();
                State::BeforeHead
            }
            _ if self.after_cr => State::Lost,
            b'\r' => {
                self.after_cr = true;
                State::BeforeHead
            }
            _ => State::Line,
        }
    }

    fn line_start(&mut self, byte: u8) -> State {
        match byte {
            b'\n' => {
                self.end_line();
                self.end_head()
            }
            _ if self.after_cr => State::Lost,
            b'\r' => {
                self.after_cr = true;
                State::LineStart
            }
            // A folded line. hyper refuses it.
            b' ' | b'\t' => State::Lost,
            _ => Name::starting_with(byte).map_or(State::Line, State::Name),
        }
    }

    fn name(&mut self, name: Name, byte: u8) -> State {
        match name.next(byte) {
            Some(name) if !name.is_whole() => State::Name(name),
            Some(name) => self.start_value(name),
            None if byte == b'\n' => {
                self.end_line();
                State::LineStart
            }
            None => {
                self.after_cr = byte == b'\r';
                State::Line
            }
        }
    }

    fn start_value(&mut self, name: Name) -> State {
        match name {
            Name::ContentLength(_) => {
                self.head.has_length = true;
                // After `Transfer-Encoding`, hyper does not look at the value.
                if self.head.has_transfer_encoding { State::Line } else { State::Length(Length::default()) }
            }
            Name::TransferEncoding(_) => {
                self.head.has_transfer_encoding = true;
                State::TransferEncoding(Coding::default())
            }
        }
    }

    fn length(&mut self, length: Length, byte: u8) -> State {
        if byte != b'\n' {
            self.after_cr = byte == b'\r';
            return length.next(byte).map_or(State::Lost, State::Length);
        }
        self.end_line();
        match (length.value(), self.head.length_bytes) {
            (Some(value), None) => self.head.length_bytes = Some(value),
            (Some(value), Some(before)) if value == before => {}
            _ => return State::Lost,
        }
        State::LineStart
    }

    fn transfer_encoding(&mut self, coding: Coding, byte: u8) -> State {
        if byte != b'\n' {
            self.after_cr = byte == b'\r';
            return State::TransferEncoding(coding.next(byte));
        }
        self.end_line();
        self.head.is_chunked = coding.is_chunked();
        State::LineStart
    }

    /// Skips lines, up to the first that may frame a body or end the head.
    fn skip_lines<'b>(&mut self, bytes: &'b [u8]) -> &'b [u8] {
        for end in memchr::memchr_iter(b'\n', bytes) {
            if let Some(last) = end.checked_sub(1).and_then(|last| bytes.get(last)) {
                self.after_cr = *last == b'\r';
            }
            self.end_line();
            let rest = bytes.get(end + 1..).unwrap_or_default();
            if !field::says_nothing(rest) {
                self.state = State::LineStart;
                return rest;
            }
        }
        self.after_cr = bytes.last() == Some(&b'\r');
        &[]
    }

    fn end_line(&mut self) {
        self.head.bare_line_feed |= !self.after_cr;
        self.after_cr = false;
    }

    fn end_head(&mut self) -> State {
        let head = std::mem::take(&mut self.head);
        self.is_begun = false;
        if head.has_transfer_encoding && !head.is_chunked || self.findings.len() >= MAX_WAITING_HEADS {
            return State::Lost;
        }
        self.findings.push_back(Framing {
            length_and_transfer_encoding: head.has_length && head.has_transfer_encoding,
            bare_line_feed: head.bare_line_feed,
        });
        match head.length_bytes {
            _ if head.is_chunked => State::Chunked(Chunked::default()),
            None => State::BeforeHead,
            Some(length) => State::Body(length),
        }
    }

    fn skip_body<'b>(&mut self, bytes: &'b [u8], remaining: u64) -> &'b [u8] {
        match usize::try_from(remaining).ok().and_then(|length| bytes.split_at_checked(length)) {
            Some((_, rest)) => {
                self.state = State::BeforeHead;
                rest
            }
            None => {
                self.state = State::Body(remaining.saturating_sub(bytes.len() as u64));
                &[]
            }
        }
    }

    fn skip_chunked<'b>(&mut self, bytes: &'b [u8], chunked: Chunked) -> &'b [u8] {
        let (state, rest) = match chunked.follow(bytes) {
            Progress::More(chunked) => (State::Chunked(chunked), &[][..]),
            Progress::Ended(rest) => (State::BeforeHead, rest),
            Progress::Malformed(rest) => (State::Malformed, rest),
        };
        self.state = state;
        rest
    }
}

#[cfg(test)]
mod tests;
