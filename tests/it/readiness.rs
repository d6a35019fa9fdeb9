//! The admin listener names what is wrong with the store, and depends on it only where that is asked for.

use std::sync::Arc;

use oncegate::store::Trouble;

use crate::harness::{Config, FaultyStore, Proxy, Request, Upstream};

async fn start(config: &Config) -> (Proxy, Arc<FaultyStore>) {
    let store = FaultyStore::new();
    (config.start_with_store(Arc::clone(&store) as _).await, store)
}

#[tokio::test]
async fn readiness_names_every_trouble_of_the_store_and_does_not_depend_on_it() {
    let upstream = Upstream::start().await;
    let (proxy, store) = start(&Config::before(&upstream)).await;
    assert_eq!(proxy.readiness().await, (200, "ready\n".to_owned()));
    store.trouble(&[Trouble::Unreachable, Trouble::Evicts, Trouble::Forgot, Trouble::NotDurable]);
    let all = "ready\nstore: unreachable\nstore: evicts\nstore: forgot\nstore: not_durable\n";
    assert_eq!(proxy.readiness().await, (200, all.to_owned()));
    proxy.request(&Request::get("/")).await.expect_status(201);
}

#[tokio::test]
async fn who_asks_for_it_is_not_ready_while_the_store_is_unreachable() {
    let upstream = Upstream::start().await;
    let needs_store = Config::before(&upstream).store("ready_needs_store = true");
    let (proxy, store) = start(&needs_store).await;
    store.trouble(&[Trouble::Unreachable]);
    assert_eq!(proxy.readiness().await, (503, "not ready\nstore: unreachable\n".to_owned()));
    assert_eq!(proxy.admin("/livez").await, 200);
    store.trouble(&[Trouble::Evicts, Trouble::Forgot, Trouble::NotDurable]);
    assert_eq!(proxy.readiness().await.0, 200);
    store.trouble(&[]);
    assert_eq!(proxy.readiness().await, (200, "ready\n".to_owned()));
}
