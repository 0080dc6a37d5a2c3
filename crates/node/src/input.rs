//! Lines of standard input, of bounded length.

use tokio::io::{self, AsyncBufRead, AsyncBufReadExt as _};

/// The longest line in bytes: more than enough for the largest value in `hex:`. Only the beginning of a longer line is
/// kept.
pub(crate) const MAX_LINE: usize = 256 * 1024;

/// A line without its ending.
pub(crate) struct Line {
    pub(crate) bytes: Vec<u8>,
    /// Whether the line was longer than [`MAX_LINE`].
    pub(crate) cut: bool,
}

/// The lines of a source.
pub(crate) struct Lines<R> {
    source: R,
    line: Line,
}

impl<R: AsyncBufRead + Unpin> Lines<R> {
    pub(crate) fn new(source: R) -> Lines<R> {
        Lines { source, line: Line { bytes: Vec::new(), cut: false } }
    }

    /// The next line; `None` at the end of the input. Cancel-safe: no input is lost.
    pub(crate) async fn next(&mut self) -> io::Result<Option<Line>> {
        loop {
            let read = self.source.fill_buf().await?;
            let at_end = read.is_empty();
            let newline = read.iter().position(|byte| *byte == b'\n');
            let part = &read[..newline.unwrap_or(read.len())];
            let free = MAX_LINE - self.line.bytes.len();
            self.line.bytes.extend_from_slice(&part[..part.len().min(free)]);
            self.line.cut |= part.len() > free;
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
