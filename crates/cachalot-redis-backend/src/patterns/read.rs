//! What answers say.

use redis::Value;

use crate::fault::Fault;

const NONSENSE: Fault = Fault::Garbled("the answer is of another kind than was asked for");

/// A number, perhaps in words.
pub(super) fn number(value: Value) -> Result<i64, Fault> {
    match value {
        Value::Int(number) => Ok(number),
        _ => text(value)?.parse().map_err(|_| NONSENSE),
    }
}

/// A number that counts something.
pub(super) fn count(value: Value) -> Result<u64, Fault> {
    u64::try_from(number(value)?).map_err(|_| NONSENSE)
}

/// A score. Older protocols write it in words.
pub(super) fn score(value: Value) -> Result<f64, Fault> {
    match value {
        Value::Double(score) => Ok(score),
        _ => text(value)?.parse().map_err(|_| NONSENSE),
    }
}

/// Bytes; `None` if there are none.
pub(super) fn bytes(value: Value) -> Result<Option<Vec<u8>>, Fault> {
    match value {
        Value::Nil => Ok(None),
        Value::BulkString(bytes) => Ok(Some(bytes)),
        _ => Err(NONSENSE),
    }
}

/// A list.
pub(super) fn list(value: Value) -> Result<Vec<Value>, Fault> {
    match value {
        Value::Array(items) | Value::Set(items) => Ok(items),
        _ => Err(NONSENSE),
    }
}

/// Pairs: a list of lists, a map, or one after the other, as protocols have it.
pub(super) fn pairs(value: Value) -> Result<Vec<(Vec<u8>, Value)>, Fault> {
    let flat: Vec<Value> = match value {
        Value::Map(pairs) => pairs.into_iter().flat_map(|(first, second)| [first, second]).collect(),
        value => {
            let nested = |item| match item {
                Value::Array(pair) => pair,
                item => vec![item],
            };
            list(value)?.into_iter().flat_map(nested).collect()
        }
    };
    let mut flat = flat.into_iter();
    let mut pairs = Vec::with_capacity(flat.len() / 2);
    while let Some(first) = flat.next() {
        pairs.push((bytes(first)?.ok_or(NONSENSE)?, flat.next().ok_or(NONSENSE)?));
    }
    Ok(pairs)
}

fn text(value: Value) -> Result<String, Fault> {
    String::from_utf8(bytes(value)?.ok_or(NONSENSE)?).map_err(|_| NONSENSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(text: &str) -> Value {
        Value::BulkString(text.into())
    }

    #[test]
    fn pairs_are_read_as_each_protocol_writes_them() {
        let expected = vec![(b"a".to_vec(), word("1")), (b"b".to_vec(), word("2"))];
        let flat = Value::Array(vec![word("a"), word("1"), word("b"), word("2")]);
        let nested = Value::Array(vec![
            Value::Array(vec![word("a"), word("1")]),
            Value::Array(vec![word("b"), word("2")]),
        ]);
        let map = Value::Map(vec![(word("a"), word("1")), (word("b"), word("2"))]);
        for value in [flat, nested, map] {
            assert_eq!(pairs(value).unwrap(), expected);
        }
        assert!(pairs(Value::Array(vec![word("a")])).is_err());
        assert!(pairs(Value::Okay).is_err());
    }

    #[test]
    fn numbers_and_scores_may_come_in_words() {
        assert_eq!(number(Value::Int(-1)).unwrap(), -1);
        assert_eq!(count(word("7")).unwrap(), 7);
        assert!(count(Value::Int(-1)).is_err() && number(word("x")).is_err());
        assert_eq!(score(word("inf")).unwrap(), f64::INFINITY);
        assert_eq!(score(Value::Double(0.5)).unwrap(), 0.5);
    }
}
