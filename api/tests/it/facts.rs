//! Names, numbers and types against the recorded facts of the protocol.

use std::collections::BTreeSet;

use prost::Message;
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorSet, ServiceDescriptorProto,
    field_descriptor_proto::{Label, Type},
};

const FACTS: [&str; 2] =
    [include_str!("../data/containerd-api.txt"), include_str!("../data/cgroup-stats.txt")];

#[test]
fn every_name_number_and_type_is_a_fact_of_the_protocol() {
    let wanted: BTreeSet<String> = FACTS
        .iter()
        .flat_map(|text| text.lines())
        .filter(|line| !line.is_empty())
        .map(str::to_owned)
        .collect();
    let present = facts();
    let missing: Vec<_> = wanted.difference(&present).collect();
    let invented: Vec<_> = present.difference(&wanted).collect();
    assert!(missing.is_empty() && invented.is_empty(), "missing: {missing:#?}\ninvented: {invented:#?}");
    assert!(wanted.len() > 1000, "only {} facts: the data is cut", wanted.len());
}

fn facts() -> BTreeSet<String> {
    let set = FileDescriptorSet::decode(corten_api::DESCRIPTORS).unwrap();
    let mut facts = BTreeSet::new();
    // The health protocol is gRPC's and the checks of the store are our own.
    let foreign = ["google.protobuf", "grpc.health", "corten"];
    let own = |package: &str| !foreign.iter().any(|prefix| package.starts_with(prefix));
    for file in set.file.iter().filter(|file| own(file.package())) {
        for message in &file.message_type {
            message_facts(file.package(), message, &mut facts);
        }
        for each in &file.enum_type {
            enum_facts(file.package(), each, &mut facts);
        }
        for service in &file.service {
            service_facts(file.package(), service, &mut facts);
        }
    }
    facts
}

fn message_facts(prefix: &str, message: &DescriptorProto, facts: &mut BTreeSet<String>) {
    let full = format!("{prefix}.{}", message.name());
    if message.field.is_empty() {
        facts.insert(format!("{full} (empty)"));
    }
    for field in &message.field {
        facts.insert(field_fact(&full, message, field));
    }
    for nested in message.nested_type.iter().filter(|nested| !is_map_entry(nested)) {
        message_facts(&full, nested, facts);
    }
    for each in &message.enum_type {
        enum_facts(&full, each, facts);
    }
}

fn field_fact(full: &str, message: &DescriptorProto, field: &FieldDescriptorProto) -> String {
    let mut kind = type_name(field);
    let mut repeated = if field.label() == Label::Repeated { "repeated " } else { "" };
    let entry = message
        .nested_type
        .iter()
        .find(|nested| is_map_entry(nested) && format!("{full}.{}", nested.name()) == kind);
    if let Some(entry) = entry {
        kind = format!("map<{}, {}>", type_name(&entry.field[0]), type_name(&entry.field[1]));
        repeated = "";
    }
    let choice = match field.oneof_index {
        None => String::new(),
        Some(_) if field.proto3_optional() => " optional".to_owned(),
        Some(index) => format!(" oneof:{}", message.oneof_decl[usize::try_from(index).unwrap()].name()),
    };
    format!("{full} {:>3} {repeated}{kind} {}{choice}", field.number(), field.name())
}

fn enum_facts(prefix: &str, each: &EnumDescriptorProto, facts: &mut BTreeSet<String>) {
    for value in &each.value {
        facts.insert(format!("{prefix}.{} = {} {}", each.name(), value.number(), value.name()));
    }
}

fn service_facts(package: &str, service: &ServiceDescriptorProto, facts: &mut BTreeSet<String>) {
    for method in &service.method {
        let stream = |streaming: bool| if streaming { "stream " } else { "" };
        facts.insert(format!(
            "rpc {package}.{}/{} ({}{}) -> ({}{})",
            service.name(),
            method.name(),
            stream(method.client_streaming()),
            method.input_type().trim_start_matches('.'),
            stream(method.server_streaming()),
            method.output_type().trim_start_matches('.'),
        ));
    }
}

fn is_map_entry(message: &DescriptorProto) -> bool {
    message.options.as_ref().is_some_and(|options| options.map_entry())
}

fn type_name(field: &FieldDescriptorProto) -> String {
    match field.r#type() {
        Type::Message | Type::Enum => field.type_name().trim_start_matches('.').to_owned(),
        other => other.as_str_name().trim_start_matches("TYPE_").to_lowercase(),
    }
}
