//! Inputs from a corpus, by small changes and by splicing two of them.

use daybook_simulator::Generator;

/// Numbers at which readers of bytes tend to err.
const EDGES: [u8; 10] = [0, 1, 127, 128, 250, 251, 252, 253, 254, 255];

/// Makes inputs out of a corpus.
pub struct Mutator {
    corpus: Vec<Vec<u8>>,
    chance: Generator,
}

impl Mutator {
    pub fn new(seed: u64, corpus: Vec<Vec<u8>>) -> Self {
        let mut bytes = [0x6d; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        Self { corpus, chance: Generator::from_seed(bytes) }
    }

    fn below(&mut self, count: usize) -> usize {
        self.chance.below(count.max(1) as u64) as usize
    }

    /// Another input.
    pub fn next(&mut self) -> Vec<u8> {
        let from = self.below(self.corpus.len());
        let mut input = self.corpus[from].clone();
        for _ in 0..=self.below(4) {
            self.change(&mut input);
        }
        input
    }

    fn change(&mut self, input: &mut Vec<u8>) {
        let at = self.below(input.len());
        match self.below(9) {
            0 | 1 => input.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << (at % 8)),
            2 => {
                let edge = EDGES[self.below(EDGES.len())];
                input.iter_mut().skip(at).take(1).for_each(|byte| *byte = edge);
            }
            3 => input.truncate(at),
            4 => {
                let byte = self.below(256) as u8;
                input.insert(at, byte);
            }
            5 => {
                let end = (at + self.below(16)).min(input.len());
                input.drain(at..end);
            }
            6 => {
                let count = self.below(64);
                let fill = EDGES[self.below(EDGES.len())];
                input.iter_mut().skip(at).take(count).for_each(|byte| *byte = fill);
            }
            7 => {
                let (from, count) = (self.below(input.len()), self.below(64));
                let end = (from + count).min(input.len());
                let copied = input[from..end].to_vec();
                input.splice(at..at, copied);
            }
            _ => {
                let other = self.below(self.corpus.len());
                let other = &self.corpus[other];
                let rest = other[at.min(other.len())..].to_vec();
                input.truncate(at);
                input.extend(rest);
            }
        }
    }
}
