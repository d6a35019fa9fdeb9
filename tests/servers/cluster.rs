//! Three nodes that share the slots among them, without replicas.

use tokio::time::sleep;

use super::ports::free_address;
use super::server::{Launch, Make, Server};
use super::{POLL, within};

/// How many slots a cluster has.
const SLOTS: usize = 16_384;

const NODES: usize = 3;

/// How long a node is silent before the others take it for down, and refuse what any slot of its has.
const NODE_TIMEOUT_MS: u32 = 2_000;

/// The nodes, each the owner of a third of the slots.
#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<Server>,
}

impl Cluster {
    /// Returns when each node takes the cluster for whole.
    pub async fn start(make: Make) -> Self {
        let mut nodes = Vec::new();
        let mut buses = Vec::new();
        for _ in 0..NODES {
            let bus = free_address().port();
            let lines = format!(
                "cluster-enabled yes\ncluster-port {bus}\ncluster-announce-ip 127.0.0.1\n\
                 cluster-node-timeout {NODE_TIMEOUT_MS}"
            );
            nodes.push(Launch::of(make).with(&lines).start().await);
            buses.push(bus);
        }
        let cluster = Self { nodes };
        for (number, node) in cluster.nodes.iter().enumerate() {
            let (first, last) = (SLOTS * number / NODES, SLOTS * (number + 1) / NODES - 1);
            cluster.order(number, &["CLUSTER", "ADDSLOTSRANGE", &first.to_string(), &last.to_string()]).await;
            cluster.order(number, &["CLUSTER", "SET-CONFIG-EPOCH", &(number + 1).to_string()]).await;
            if number > 0 {
                let (port, bus) = (node.address().port().to_string(), buses[number].to_string());
                cluster.order(0, &["CLUSTER", "MEET", "127.0.0.1", &port, &bus]).await;
            }
        }
        let whole = async {
            while !cluster.is_whole().await {
                sleep(POLL).await;
            }
        };
        within("a cluster that is whole", whole).await;
        cluster
    }

    /// Each owns a third of the slots, in this order.
    pub fn nodes(&self) -> &[Server] {
        &self.nodes
    }

    /// To stop or to end one.
    pub fn node(&mut self, number: usize) -> &mut Server {
        &mut self.nodes[number]
    }

    /// The number of the node that has a key.
    pub async fn owner_of(&self, key: &str) -> usize {
        let slot: usize = self.nodes[0].command(&["CLUSTER", "KEYSLOT", key]).await.expect("an answer");
        (0..NODES).find(|number| slot < SLOTS * (number + 1) / NODES).expect("a slot has an owner")
    }

    async fn order(&self, number: usize, words: &[&str]) {
        let done: String = self.nodes[number].command(words).await.expect("an answer");
        assert_eq!(done, "OK", "{words:?}");
    }

    async fn is_whole(&self) -> bool {
        for node in &self.nodes {
            let said: String = node.command(&["CLUSTER", "INFO"]).await.expect("an answer");
            let says = |wanted: &str| said.lines().any(|line| line == wanted);
            if !says("cluster_state:ok") || !says("cluster_known_nodes:3") || !says("cluster_slots_ok:16384")
            {
                return false;
            }
        }
        true
    }
}
