//! Lines of standard input, of bounded length.

use tokio::io::{self, AsyncBufRead, AsyncBufReadExt as _};

/// The longest line in bytes that is read whole: a value of the largest size that the protocol carries, in `hex:`,
/// fits many times over. Of a longer line only the beginning is kept.
pub(crate) const MAX_LINE: usize = 256 * 1024;

/// A line without its ending.
pub(crate) struct Line {
    pub(crate) bytes: Vec<u8>,
    /// Whether it was longer than [`MAX_LINE`].
    pub(crate) cut: bool,
}

/// The lines of one source, one after the other.
pub(crate) struct Lines<R> {
    source: R,
    line: Line,
}

impl<R: AsyncBufRead + Unpin> Lines<R> {
    pub(crate) fn new(source: R) -> Lines<R> {
        Lines { source, line: Line { bytes: Vec::new(), cut: false } }
    }

    /// The next line; `None` at the end of the input. May be dropped while it waits: nothing is lost.
    pub(crate) async fn next(&mut self) -> io::Result<Option<Line>> {
        loop {
            let read = self.source.fill_buf().await?;
            let at_end = read.is_empty();
            let newline = read.iter().position(|byte| *byte == b'\n');
            let part = &read[..newline.unwrap_or(read.len())];
            let room = MAX_LINE - self.line.bytes.len();
            self.line.bytes.extend_from_slice(&part[..part.len().min(room)]);
            self.line.cut |= part.len() > room;
            let consumed = part.len() + usize::from(newline.is_some());
            self.source.consume(consumed);
            if newline.is_some() || (at_end && !self.line.bytes.is_empty()) {
                return Ok(Some(self.take()));
            }
            if at_end {
                return Ok(None);
            }
        }
    }

    fn take(&mut self) -> Line {
        let mut line = std::mem::replace(&mut self.line, Line { bytes: Vec::new(), cut: false });
        if line.bytes.last() == Some(&b'\r') {
            line.bytes.pop();
        }
        line
    }
}
