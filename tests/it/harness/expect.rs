//! What tests expect again and again. Every failure shows the whole response.

use super::proxy::Proxy;
use super::request::Request;
use super::response::Response;
use super::upstream::Upstream;

/// Where clients look a problem up.
const DOCUMENTATION: &str = include_str!("../../../docs/problems.md");

impl Response {
    /// It has this status, and is no problem of the proxy's own.
    #[track_caller]
    pub fn expect_status(&self, status: u16) -> &Self {
        assert_eq!(self.status, status, "the wrong status: {self:?}");
        self
    }

    /// It is a problem that the proxy made, with this status and word, and everything that every problem carries.
    #[track_caller]
    pub fn expect_problem(&self, status: u16, word: &str) -> &Self {
        assert_eq!(
            (self.status, self.problem().as_deref()),
            (status, Some(word)),
            "not that problem: {self:?}"
        );
        assert_eq!(self.value("content-type"), Some("application/problem+json"), "{self:?}");
        assert_eq!(self.value("cache-control"), Some("no-store"), "{self:?}");
        assert!(!self.is_replay(), "a problem is no replay: {self:?}");
        let section =
            DOCUMENTATION.split("\n## ").find_map(|section| section.strip_prefix(&format!("{word}\n")));
        let section = section.unwrap_or_else(|| panic!("{word} has no section in docs/problems.md"));
        let named = section.split("\n\n").next().unwrap_or_default().contains(&status.to_string());
        assert!(named, "its section does not name {status}: {section}");
        let body = self.json();
        assert_eq!(body["status"], status, "the member agrees with the status line: {self:?}");
        for member in ["type", "title", "detail"] {
            assert!(
                body[member].as_str().is_some_and(|text| !text.is_empty()),
                "{member} says something: {self:?}"
            );
        }
        self
    }

    /// It is the stored answer: marked, and otherwise the same.
    #[track_caller]
    pub fn expect_replay_of(&self, first: &Self) -> &Self {
        assert!(self.is_replay(), "not marked as a replay: {self:?}\nof: {first:?}");
        assert!(!first.is_replay(), "the first answer is no replay: {first:?}");
        assert_eq!(self.status, first.status, "{self:?}\nof: {first:?}");
        assert_eq!(self.kept_fields(), first.kept_fields(), "{self:?}\nof: {first:?}");
        assert!(self.body == first.body, "the body differs: {self:?}\nof: {first:?}");
        assert_eq!(self.trailers, first.trailers, "{self:?}\nof: {first:?}");
        self
    }

    /// It says when to come back, in seconds.
    #[track_caller]
    pub fn expect_retry_after(&self) -> u64 {
        let value = self.value("retry-after").unwrap_or_else(|| panic!("no Retry-After: {self:?}"));
        value.parse().unwrap_or_else(|_| panic!("Retry-After is not in seconds: {self:?}"))
    }

    /// It says that the fault lies behind the proxy, with an error of RFC 9209.
    #[track_caller]
    pub fn expect_proxy_status(&self) -> String {
        let value = self.value("proxy-status").unwrap_or_else(|| panic!("no Proxy-Status: {self:?}"));
        let error = value.strip_prefix("oncegate; error=");
        let error = error.unwrap_or_else(|| panic!("Proxy-Status names no error: {self:?}"));
        error.split(';').next().unwrap_or_default().to_owned()
    }
}

impl Proxy {
    /// The answer to this request breaks off. Where that takes longer than the proxy holds an answer back, the client sees half
    /// of one, and never a whole one; whoever asks later is told.
    pub async fn expect_broken(&self, request: &Request) {
        let mut client = self.client().await;
        client.send(request).await;
        if let Ok(whole) = client.try_response().await {
            whole.expect_problem(502, "outcome-unknown");
        }
        self.settled(request).await.expect_problem(502, "outcome-unknown");
    }
}

impl Upstream {
    /// It saw this key exactly so often.
    #[track_caller]
    pub fn expect_executions(&self, key: &str, count: usize) {
        let executions = self.executions(key);
        assert_eq!(executions, count, "executions of {key:?}: {:#?}", self.seen());
    }

    /// It saw nothing at all.
    #[track_caller]
    pub fn expect_nothing(&self) {
        assert!(self.seen().is_empty(), "nothing should have reached the upstream: {:#?}", self.seen());
    }
}
