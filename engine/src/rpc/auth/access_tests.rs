//! Walks the compiled descriptors: nothing the protos offer is missing from the table, nothing in it is made up (A2).

use std::collections::{BTreeMap, BTreeSet};

use prost::Message as _;
use prost_types::field_descriptor_proto::Type;
use prost_types::{DescriptorProto, FileDescriptorSet};

use super::*;

fn descriptors() -> FileDescriptorSet {
    FileDescriptorSet::decode(cellaflow_proto::DESCRIPTORS).unwrap()
}

/// Every message of the protos by its full name, nested ones included.
fn messages(set: &FileDescriptorSet) -> BTreeMap<String, DescriptorProto> {
    let mut all = BTreeMap::new();
    for file in &set.file {
        let mut open: Vec<(String, DescriptorProto)> =
            file.message_type.iter().map(|message| (file.package().to_owned(), message.clone())).collect();
        while let Some((parent, message)) = open.pop() {
            let name = format!("{parent}.{}", message.name());
            open.extend(message.nested_type.iter().map(|inner| (name.clone(), inner.clone())));
            all.insert(name, message);
        }
    }
    all
}

/// Every message that can arrive after the first one on a stream from a caller.
fn streamed(set: &FileDescriptorSet, messages: &BTreeMap<String, DescriptorProto>) -> BTreeSet<String> {
    let methods = set.file.iter().flat_map(|file| &file.service).flat_map(|service| &service.method);
    let mut open: Vec<String> = methods
        .filter(|method| method.client_streaming())
        .map(|method| method.input_type().trim_start_matches('.').to_owned())
        .collect();
    let mut found = BTreeSet::new();
    while let Some(name) = open.pop() {
        if found.insert(name.clone()) {
            let fields = &messages[&name].field;
            let inner = fields.iter().filter(|field| field.r#type() == Type::Message);
            open.extend(inner.map(|field| field.type_name().trim_start_matches('.').to_owned()));
        }
    }
    found
}

#[test]
fn every_method_of_every_service_is_listed_and_none_is_made_up() {
    let set = descriptors();
    let mut compiled = BTreeSet::new();
    for file in &set.file {
        for service in &file.service {
            for method in &service.method {
                compiled.insert(format!("/{}.{}/{}", file.package(), service.name(), method.name()));
            }
        }
    }
    assert!(compiled.contains("/cellaflow.v1.EngineService/StartSession"), "the walk sees the services");
    let ours: BTreeSet<String> =
        listed_methods().filter(|path| path.starts_with("/cellaflow.")).map(str::to_owned).collect();
    assert_eq!(ours, compiled);
}

#[test]
fn every_arm_of_every_oneof_in_a_stream_is_listed_and_none_is_made_up() {
    let set = descriptors();
    let messages = messages(&set);
    let mut compiled = BTreeSet::new();
    let mut values = BTreeSet::new();
    for name in streamed(&set, &messages) {
        let message = &messages[&name];
        // `optional` fields have a oneof of their own in descriptors, which nobody wrote.
        for field in message.field.iter().filter(|field| !field.proto3_optional()) {
            let Some(index) = field.oneof_index else { continue };
            let oneof = message.oneof_decl[usize::try_from(index).unwrap()].name();
            if VALUES.contains(&(name.as_str(), oneof)) {
                values.insert((name.clone(), oneof.to_owned()));
            } else {
                compiled.insert((name.clone(), field.name().to_owned()));
            }
        }
    }
    let ours: BTreeSet<_> =
        listed_arms().map(|(message, arm)| (message.to_owned(), arm.to_owned())).collect();
    assert_eq!(ours, compiled);
    assert_eq!(values.len(), VALUES.len(), "no value oneof is made up");
}

#[test]
fn viewers_change_nothing_and_only_admins_see_tokens() {
    let changing = [
        "StartSession",
        "CommitStep",
        "ReplayRecovery",
        "Channel",
        "Heartbeat",
        "ResumeSession",
        "ForkSession",
        "AcceptDivergence",
        "ResolveStep",
    ];
    for path in listed_methods().filter(|path| !is_open(path)) {
        let method = path.rsplit('/').next().unwrap();
        assert!(may_call(Role::Admin, path).is_ok(), "{path}");
        if changing.contains(&method) {
            assert!(may_call(Role::Viewer, path).is_err(), "{path}");
            assert!(may_call(Role::Compactor, path).is_err(), "{path}");
        }
        if method.contains("Token") {
            assert!(
                Role::ALL.iter().all(|role| may_call(*role, path).is_ok() == (*role == Role::Admin)),
                "{path}"
            );
        }
    }
}
