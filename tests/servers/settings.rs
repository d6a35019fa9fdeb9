//! What a configuration says of the shared servers.

use super::server::{PASSWORD_FILE, Server, USER};
use super::shared;

/// `[store]` with `lines`, and `[store.redis]` open for more, for `redis`, `redis-tls`, `valkey`, `sentinel` or `cluster`. `None`
/// where there is no such server.
///
/// Tests that run all at once make a store slower than it is: they have more patience, unless `lines` say for how much.
pub async fn store_section(kind: &str, lines: &str) -> Option<String> {
    let (urls, more) = servers(kind).await?;
    let timeout =
        if lines.contains("timeout") || lines.contains("lease") { "" } else { "timeout = \"3s\"\n" };
    Some(format!(
        "[store]\nkind = \"redis\"\nurl = {urls:?}\n{timeout}{lines}\n[store.redis]\nconnect_timeout = \"10s\"\n{more}"
    ))
}

/// Where they are, and what `[store.redis]` says of them.
async fn servers(kind: &str) -> Option<(Vec<String>, String)> {
    let alone = |server: &Server| (vec![server.url()], login("", server));
    Some(match kind {
        "redis" => alone(shared::redis().await),
        "redis-tls" => {
            let server = shared::redis_tls().await;
            let (urls, login) = alone(server);
            (urls, format!("{login}tls = {{ ca = {:?} }}\n", server.path("ca.crt")))
        }
        "valkey" => alone(shared::valkey().await?),
        "sentinel" => {
            let set = shared::sentinels().await;
            let (urls, one) = all(set.sentinels());
            let logins = login("", one) + &login("sentinel_", one);
            (urls, format!("{logins}sentinel_master = \"{}\"\n", set.name()))
        }
        "cluster" => {
            let (urls, one) = all(shared::cluster().await.nodes());
            (urls, login("", one) + "cluster = true\n")
        }
        other => panic!("{other}: write redis, redis-tls, valkey, sentinel or cluster"),
    })
}

/// Where they are, and one that knows the password of all.
fn all(servers: &[Server]) -> (Vec<String>, &Server) {
    (servers.iter().map(Server::url).collect(), &servers[0])
}

fn login(prefix: &str, server: &Server) -> String {
    let file = server.path(PASSWORD_FILE);
    format!("{prefix}username = \"{USER}\"\n{prefix}password_file = {file:?}\n")
}
