//! Bodies that end when their token does (A3).
//!
//! Both directions of a call are wrapped, so that no handler, present or future, has to remember to ask again.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::Sleep;
use tonic::Status;
use tonic::body::Body;

use super::{Gate, Refusal};

/// What the two bodies of one call share.
pub(super) struct Watch {
    gate: Arc<Gate>,
    hash: [u8; 32],
    /// Set by whichever direction notices first, so that both end for the same reason.
    ended: AtomicBool,
}

impl Watch {
    pub(super) fn new(gate: Arc<Gate>, hash: [u8; 32]) -> Self {
        Self { gate, hash, ended: AtomicBool::new(false) }
    }

    fn verdict(&self) -> Result<(), Refusal> {
        let verdict = self.gate.find(&self.hash).map(drop);
        if verdict.is_err() {
            self.ended.store(true, Ordering::Release);
        }
        verdict
    }
}

enum Direction {
    Request,
    Response,
}

/// One direction of a call, cut off when the token is.
pub(super) struct Watched {
    inner: Body,
    watch: Arc<Watch>,
    direction: Direction,
    /// Absent until a second poll: most calls are over before and need no timer.
    timer: Option<Pin<Box<Sleep>>>,
    polled: bool,
    finished: bool,
}

impl Watched {
    pub(super) fn request(inner: Body, watch: Arc<Watch>) -> Self {
        Self { inner, watch, direction: Direction::Request, timer: None, polled: false, finished: false }
    }

    pub(super) fn response(inner: Body, watch: Arc<Watch>) -> Self {
        Self { direction: Direction::Response, ..Self::request(inner, watch) }
    }

    /// Returns the refusal when it is time to look again and the token is gone; registers the next wake-up.
    fn refusal(&mut self, cx: &mut Context<'_>) -> Option<Refusal> {
        if self.watch.ended.load(Ordering::Acquire) {
            return self.watch.verdict().err();
        }
        let recheck = self.watch.gate.recheck;
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(recheck)));
        while timer.as_mut().poll(cx).is_ready() {
            if let Err(refusal) = self.watch.verdict() {
                return Some(refusal);
            }
            timer.set(tokio::time::sleep(recheck));
        }
        None
    }

    fn cut(&mut self, refusal: Refusal) -> Option<Result<Frame<Bytes>, Status>> {
        tracing::debug!(reason = refusal.reason(), "stream ended with its token");
        self.finished = true;
        // Dropping the handler's stream tells it that nobody listens any more.
        self.inner = Body::empty();
        let status = Status::from(refusal);
        match self.direction {
            Direction::Request => Some(Err(status)),
            Direction::Response => {
                let mut trailers = http::HeaderMap::new();
                Some(status.add_header(&mut trailers).map(|()| Frame::trailers(trailers)))
            }
        }
    }
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.finished {
            return Poll::Ready(None);
        }
        if self.polled
            && let Some(refusal) = self.refusal(cx)
        {
            return Poll::Ready(self.cut(refusal));
        }
        self.polled = true;
        let frame = Pin::new(&mut self.inner).poll_frame(cx);
        if frame.is_pending()
            && self.timer.is_none()
            && let Some(refusal) = self.refusal(cx)
        {
            return Poll::Ready(self.cut(refusal));
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.finished || self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        if self.finished { SizeHint::with_exact(0) } else { self.inner.size_hint() }
    }
}
