//! An answer, for as long as it is on its way: its connection is not one that only waits.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http_body::{Frame, SizeHint};

use crate::seats::Answering;

/// A body that holds its place.
pub struct Answered {
    body: Body,
    _answering: Answering,
}

impl Answered {
    /// The same answer, which holds its place until its body was sent or given up.
    pub fn response(response: Response, answering: Answering) -> axum::http::Response<Self> {
        response.map(|body| Self { body, _answering: answering })
    }
}

impl http_body::Body for Answered {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
