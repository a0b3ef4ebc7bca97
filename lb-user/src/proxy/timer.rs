//! One timer for all the deadlines of a connection: set seldom, since most deadlines never come.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::time::{Instant, Sleep, sleep_until};

/// See the module.
#[derive(Debug, Default)]
pub struct Timer {
    sleep: Option<Pin<Box<Sleep>>>,
    /// Whether `sleep` has not rung yet.
    armed: bool,
}

impl Timer {
    /// Ready once `deadline` has come. The earliest deadline of several polls counts until it has passed, so that one that moves
    /// on does not cost a new setting each time.
    pub fn poll(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        loop {
            let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
            if !self.armed || deadline < sleep.deadline() {
                sleep.as_mut().reset(deadline);
                self.armed = true;
            }
            ready!(sleep.as_mut().poll(cx));
            self.armed = false;
            if Instant::now() >= deadline {
                return Poll::Ready(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_deadline_that_moves_on_comes_when_it_comes() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut timer = Timer::default();
        let early = poll_fn(|cx| Poll::Ready(timer.poll(cx, start + 5 * second).is_ready())).await;
        assert!(!early);
        poll_fn(|cx| timer.poll(cx, start + 60 * second)).await;
        assert_eq!(start.elapsed().as_secs(), 60);
        poll_fn(|cx| timer.poll(cx, start + 62 * second)).await;
        assert_eq!(start.elapsed().as_secs(), 62);
        poll_fn(|cx| timer.poll(cx, start)).await;
        assert_eq!(start.elapsed().as_secs(), 62);
    }
}
