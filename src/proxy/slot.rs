//! Where a guarded request's answer goes.
//!
//! The work on a guarded request runs apart from its client (I8). The slot is what is left of the client there: it takes one
//! reply, says whether anybody still waits for it, and writes the request's line in the access log.

use http::{Response, StatusCode};
use tokio::sync::oneshot;

use super::access::AccessLine;
use super::body::ReplyBody;
use super::outcome::RequestOutcome;
use super::reply::Reply;

/// The way back to one client.
#[derive(Debug)]
pub struct Slot {
    client: Option<oneshot::Sender<Response<ReplyBody>>>,
    line: AccessLine,
}

impl Slot {
    /// A slot, and where its reply arrives.
    #[must_use]
    pub fn new(mut line: AccessLine) -> (Self, oneshot::Receiver<Response<ReplyBody>>) {
        // What is cut off without a reply, by a panic or the end of the process, may have run.
        line.outcome(RequestOutcome::Unknown);
        let (client, receiver) = oneshot::channel();
        (Self { client: Some(client), line }, receiver)
    }

    /// Whether somebody waits for a reply that was not given yet.
    #[must_use]
    pub fn is_waited_for(&self) -> bool {
        self.client.as_ref().is_some_and(|client| !client.is_closed())
    }

    /// The request's line in the access log.
    pub const fn line(&mut self) -> &mut AccessLine {
        &mut self.line
    }

    /// Gives the reply and writes the line. After a reply was given, or began to stream, a second one only tells the line
    /// how the request ended.
    pub fn reply(&mut self, reply: Reply) {
        if self.client.is_some() {
            self.end(reply.response.status(), reply.outcome);
            self.send(reply.response);
        } else {
            self.line.outcome(reply.outcome);
        }
        self.line.write();
    }

    /// Gives a reply whose body is still to come. The line is written at its end.
    pub fn stream(&mut self, response: Response<ReplyBody>) {
        self.end(response.status(), RequestOutcome::Executed);
        self.send(response);
    }

    fn end(&mut self, status: StatusCode, outcome: RequestOutcome) {
        self.line.end(status, outcome);
    }

    fn send(&mut self, response: Response<ReplyBody>) {
        if self.client.take().is_none_or(|client| client.send(response).is_err()) {
            self.line.client_gone();
        }
    }
}
