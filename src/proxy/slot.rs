//! Where a guarded request's answer goes.
//!
//! The work on a guarded request runs apart from its client (I8). The slot is what is left of the client there: it takes one
//! reply, says whether anybody still waits for it, and closes the request's account.

use http::{Response, StatusCode};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::account::Account;
use super::body::ReplyBody;
use super::outcome::RequestOutcome;
use super::reply::Reply;

/// The way back to one client.
#[derive(Debug)]
pub struct Slot {
    client: Option<oneshot::Sender<Box<Response<ReplyBody>>>>,
    /// The request's method, as a label has it.
    method: &'static str,
    /// When the request began to be sent, if its answer is asked for only later.
    sent_at: Option<Instant>,
    account: Account,
}

impl Slot {
    /// A slot, and where its reply arrives.
    #[must_use]
    pub fn new(mut account: Account) -> (Self, oneshot::Receiver<Box<Response<ReplyBody>>>) {
        // What is cut off without a reply, by a panic or the end of the process, may have run.
        account.outcome(RequestOutcome::Unknown);
        let (client, receiver) = oneshot::channel();
        (Self { client: Some(client), method: account.method(), sent_at: None, account }, receiver)
    }

    /// Whether somebody waits for a reply that was not given yet.
    #[must_use]
    pub fn is_waited_for(&self) -> bool {
        self.client.as_ref().is_some_and(|client| !client.is_closed())
    }

    /// The request's method, as a label has it.
    #[must_use]
    pub const fn method(&self) -> &'static str {
        self.method
    }

    /// The request begins to be sent now, and its answer is asked for only later.
    pub fn begins_to_send(&mut self) {
        self.sent_at = Some(Instant::now());
    }

    /// When that was.
    #[must_use]
    pub const fn sent_at(&self) -> Option<Instant> {
        self.sent_at
    }

    /// The request's account.
    pub const fn account(&mut self) -> &mut Account {
        &mut self.account
    }

    /// Gives the reply and closes the account. After a reply was given, or began to stream, a second one only tells the
    /// account how the request ended.
    pub fn reply(&mut self, reply: Reply) {
        if self.client.is_some() {
            self.end(reply.response.status(), reply.outcome);
            self.account.answers(&reply.response);
            self.send(reply.response);
        } else {
            self.account.outcome(reply.outcome);
        }
        self.account.close();
    }

    /// Gives a reply whose body is still to come. The account is closed at its end.
    pub fn stream(&mut self, response: Response<ReplyBody>) {
        self.end(response.status(), RequestOutcome::Executed);
        self.send(Box::new(response));
    }

    fn end(&mut self, status: StatusCode, outcome: RequestOutcome) {
        self.account.end(status, outcome);
    }

    fn send(&mut self, response: Box<Response<ReplyBody>>) {
        if self.client.take().is_none_or(|client| client.send(response).is_err()) {
            self.account.client_gone();
        }
    }
}
