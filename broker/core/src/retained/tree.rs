//! A tree of topic levels. Nodes are numbers in one slab and siblings a list, because a node must be small: a topic of many
//! levels has as many nodes. Two hash tables lead to a node: by its topic, and by its parent and level.

use crate::message::Message;
use hashbrown::{DefaultHashBuilder, HashTable};
use slab::Slab;
use smallvec::SmallVec;
use std::hash::BuildHasher;
use std::sync::Arc;

/// Bytes that a level may occupy: its node, its text's allocation, its places in the hash tables.
pub(super) const LEVEL_BYTES: usize = 112;

/// A node's place in the slab.
pub(super) type NodeId = u32;

/// No node: the end of a list of siblings, the parent of first levels.
const NONE: NodeId = NodeId::MAX;

#[derive(Debug)]
struct Node {
    level: Box<str>,
    parent: NodeId,
    first_child: NodeId,
    next: NodeId,
    previous: NodeId,
    message: Option<Arc<Message>>,
}

/// Messages by topic.
#[derive(Debug)]
pub(super) struct Tree {
    hasher: DefaultHashBuilder,
    nodes: Slab<Node>,
    first_root: NodeId,
    children: HashTable<NodeId>,
    topics: HashTable<NodeId>,
}

impl Default for Tree {
    fn default() -> Self {
        Tree {
            hasher: DefaultHashBuilder::default(),
            nodes: Slab::new(),
            first_root: NONE,
            children: HashTable::new(),
            topics: HashTable::new(),
        }
    }
}

impl Tree {
    /// Number of messages.
    pub(super) fn messages(&self) -> usize {
        self.topics.len()
    }

    /// Number of nodes.
    #[cfg(test)]
    pub(super) fn nodes(&self) -> usize {
        self.nodes.len()
    }

    /// The node that holds the message of a topic.
    pub(super) fn find(&self, topic: &str) -> Option<NodeId> {
        self.topics
            .find(self.hasher.hash_one(topic), |&id| self.topic(id) == Some(topic))
            .copied()
    }

    /// The message of a topic.
    pub(super) fn get(&self, topic: &str) -> Option<&Arc<Message>> {
        self.node(self.find(topic)?).message.as_ref()
    }

    /// The node of the message's topic, and the message it held before.
    pub(super) fn insert(&mut self, message: Arc<Message>) -> (NodeId, Option<Arc<Message>>) {
        if let Some(id) = self.find(&message.app.topic) {
            return (id, self.node_mut(id).message.replace(message));
        }
        let id = message
            .app
            .topic
            .split('/')
            .fold(NONE, |parent, level| self.child_or_new(parent, level));
        let hash = self.hasher.hash_one(message.app.topic.as_str());
        self.node_mut(id).message = Some(message);
        let (nodes, hasher) = (&self.nodes, &self.hasher);
        self.topics
            .insert_unique(hash, id, |&id| hasher.hash_one(topic_of(nodes, id).unwrap_or_default()));
        (id, None)
    }

    /// Takes the message out of a node, and the nodes that led only to it out of the tree.
    pub(super) fn remove(&mut self, id: NodeId) -> Option<Arc<Message>> {
        let message = self.nodes.get_mut(id as usize)?.message.take()?;
        let hash = self.hasher.hash_one(message.app.topic.as_str());
        if let Ok(entry) = self.topics.find_entry(hash, |&other| other == id) {
            entry.remove();
        }
        self.prune(id);
        self.give_space_back();
        Some(message)
    }

    /// Calls `found` for each message whose topic matches a filter with wildcards.
    pub(super) fn matching(&self, filter: &str, found: &mut impl FnMut(&Arc<Message>)) {
        let filter: SmallVec<[&str; 16]> = filter.split('/').collect();
        // A cursor into a list of siblings per level of the walk, and the index of the filter level they are up against.
        let mut cursors: SmallVec<[(NodeId, usize); 16]> = SmallVec::new();
        self.enter(NONE, 0, &filter, &mut cursors);
        while let Some((id, at)) = cursors.pop() {
            let node = self.node(id);
            let is_wildcard = matches!(filter[at], "+" | "#");
            if is_wildcard && node.next != NONE {
                cursors.push((node.next, at));
            }
            if is_wildcard && node.parent == NONE && node.level.starts_with('$') {
                continue;
            }
            let next = if filter[at] == "#" { at } else { at + 1 };
            if next == filter.len() || filter[next] == "#" {
                // A `#` includes its parent level.
                node.message.iter().for_each(&mut *found);
            }
            self.enter(id, next, &filter, &mut cursors);
        }
    }

    /// Puts the children of `parent` that may match `filter[at]` on the cursors.
    fn enter(&self, parent: NodeId, at: usize, filter: &[&str], cursors: &mut SmallVec<[(NodeId, usize); 16]>) {
        let first = match filter.get(at) {
            None => return,
            Some(&("+" | "#")) => self.first_child(parent),
            Some(level) => self.child(parent, level).unwrap_or(NONE),
        };
        if first != NONE {
            cursors.push((first, at));
        }
    }

    fn child(&self, parent: NodeId, level: &str) -> Option<NodeId> {
        let is_it = |&id: &NodeId| {
            let node = self.node(id);
            node.parent == parent && *node.level == *level
        };
        self.children
            .find(self.hasher.hash_one((parent, level)), is_it)
            .copied()
    }

    fn child_or_new(&mut self, parent: NodeId, level: &str) -> NodeId {
        if let Some(id) = self.child(parent, level) {
            return id;
        }
        let next = self.first_child(parent);
        let node = Node {
            level: level.into(),
            parent,
            first_child: NONE,
            next,
            previous: NONE,
            message: None,
        };
        let id = self.nodes.insert(node) as NodeId;
        if next != NONE {
            self.node_mut(next).previous = id;
        }
        self.set_first_child(parent, id);
        let (nodes, hasher) = (&self.nodes, &self.hasher);
        let hash = |id: NodeId| hasher.hash_one((nodes[id as usize].parent, &*nodes[id as usize].level));
        self.children.insert_unique(hash(id), id, |&id| hash(id));
        id
    }

    /// Removes the node and its ancestors as long as they lead nowhere.
    fn prune(&mut self, mut id: NodeId) {
        while id != NONE && self.node(id).message.is_none() && self.node(id).first_child == NONE {
            let hash = self.hasher.hash_one((self.node(id).parent, &*self.node(id).level));
            if let Ok(entry) = self.children.find_entry(hash, |&other| other == id) {
                entry.remove();
            }
            let node = self.nodes.remove(id as usize);
            self.unlink(&node);
            id = node.parent;
        }
    }

    fn unlink(&mut self, node: &Node) {
        match node.previous {
            NONE => self.set_first_child(node.parent, node.next),
            previous => self.node_mut(previous).next = node.next,
        }
        if node.next != NONE {
            self.node_mut(node.next).previous = node.previous;
        }
    }

    fn give_space_back(&mut self) {
        if self.nodes.is_empty() {
            *self = Self::default();
        }
    }

    fn first_child(&self, parent: NodeId) -> NodeId {
        if parent == NONE {
            self.first_root
        } else {
            self.node(parent).first_child
        }
    }

    fn set_first_child(&mut self, parent: NodeId, child: NodeId) {
        if parent == NONE {
            self.first_root = child;
        } else {
            self.node_mut(parent).first_child = child;
        }
    }

    fn topic(&self, id: NodeId) -> Option<&str> {
        topic_of(&self.nodes, id)
    }

    fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id as usize]
    }

    fn node_mut(&mut self, id: NodeId) -> &mut Node {
        &mut self.nodes[id as usize]
    }
}

fn topic_of(nodes: &Slab<Node>, id: NodeId) -> Option<&str> {
    nodes[id as usize]
        .message
        .as_deref()
        .map(|message| message.app.topic.as_str())
}
