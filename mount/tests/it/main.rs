//! Real mounts, in mount namespaces that end with the test.

mod mounting;
mod support;
mod temporary;
mod unmounting;
