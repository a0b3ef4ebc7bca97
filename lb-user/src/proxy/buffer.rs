//! Bytes that came and were not used yet. Who waits for the first of them has no storage.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, ReadBuf};

use super::storage::{Size, put_back, take};

/// Bytes in the order in which they came.
#[derive(Debug, Default)]
pub struct Buffer {
    /// Initialised throughout; empty while there is nothing to hold.
    storage: Vec<u8>,
    start: usize,
    end: usize,
}

impl Buffer {
    /// What is there.
    pub fn bytes(&self) -> &[u8] {
        &self.storage[self.start..self.end]
    }

    /// Whether nothing is there.
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// The first `length` bytes are used.
    pub fn consume(&mut self, length: usize) {
        self.start = (self.start + length).min(self.end);
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Gives the storage back, if nothing is in it.
    pub fn release(&mut self) {
        if self.is_empty() && !self.storage.is_empty() {
            put_back(std::mem::take(&mut self.storage));
        }
    }

    /// Reads once, and tells how much came; zero is the stream's end. The buffer then holds at most `most` bytes, which must be
    /// more than it holds now.
    pub fn poll_read(
        &mut self,
        stream: &mut (impl AsyncRead + Unpin),
        cx: &mut Context<'_>,
        most: usize,
    ) -> Poll<io::Result<usize>> {
        if self.storage.is_empty() {
            self.storage = take(Size::Content);
        }
        self.make_room(most);
        let mut free = ReadBuf::new(&mut self.storage[self.end..]);
        let read = Pin::new(stream).poll_read(cx, &mut free);
        let came = free.filled().len();
        self.end += came;
        // A phone's request is silent for an hour: waiting costs no storage.
        self.release();
        read.map_ok(|()| came)
    }

    fn make_room(&mut self, most: usize) {
        if self.end < self.storage.len() {
            return;
        }
        if self.start > 0 {
            self.storage.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        if self.end == self.storage.len() {
            self.storage.resize((2 * self.end).min(most.max(self.end + 1)), 0);
        }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.consume(usize::MAX - self.start);
        self.release();
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncWriteExt as _, duplex};

    use super::*;

    #[tokio::test]
    async fn bytes_come_out_as_they_went_in_and_a_buffer_at_rest_is_given_back() {
        let (mut there, mut here) = duplex(1 << 20);
        let sent: Vec<u8> = (0..50_000_u32).map(|number| number.to_le_bytes()[0]).collect();
        there.write_all(&sent).await.unwrap();
        drop(there);
        let (mut buffer, mut got) = (Buffer::default(), Vec::new());
        let mut step = 0;
        loop {
            let came = poll_fn(|cx| buffer.poll_read(&mut here, cx, 20_000)).await.unwrap();
            if came == 0 {
                break;
            }
            assert!(buffer.bytes().len() <= 20_000);
            step = (step + 997).min(buffer.bytes().len());
            got.extend_from_slice(&buffer.bytes()[..step]);
            buffer.consume(step);
        }
        got.extend_from_slice(buffer.bytes());
        buffer.consume(usize::MAX >> 1);
        assert!(got == sent);
        buffer.release();
        assert_eq!(buffer.storage.capacity(), 0);
    }

    #[tokio::test]
    async fn who_waits_for_bytes_has_no_storage() {
        let (mut there, mut here) = duplex(64);
        let mut buffer = Buffer::default();
        for _ in 0..2 {
            let waits = poll_fn(|cx| Poll::Ready(buffer.poll_read(&mut here, cx, 100).is_pending())).await;
            assert!(waits);
            assert_eq!(buffer.storage.capacity(), 0);
            there.write_all(b"a").await.unwrap();
            poll_fn(|cx| buffer.poll_read(&mut here, cx, 100)).await.unwrap();
            assert_eq!(buffer.bytes(), b"a");
            buffer.consume(1);
        }
    }

    #[tokio::test]
    async fn a_read_beyond_the_usual_size_grows_the_buffer_up_to_what_is_allowed() {
        let (mut there, mut here) = duplex(1 << 20);
        there.write_all(&[7; 100_000]).await.unwrap();
        let mut buffer = Buffer::default();
        while buffer.bytes().len() < 40_000 {
            poll_fn(|cx| buffer.poll_read(&mut here, cx, 40_000)).await.unwrap();
        }
        assert_eq!(buffer.bytes(), [7; 40_000]);
    }
}
