//! Several questions about one client in one call, for plugins that take them (`wit/batch.wit`).
//!
//! A call that fails has answered nothing, and is asked again question by question: who did not answer is found out there.

use crate::answer::{self, Invalid};
use crate::breaker::Admission;
use crate::call_arena::CallArena;
use crate::instance::{Function, Functions, Instance};
use crate::lift::{self, AnswerList, List, Verdicts};
use crate::question::ClientFacts;
use crate::stats::Call;
use crate::tap::{TappedAnswer, TappedQuestion};
use nervewire_core::hook::{AppMessageRef, Client, Transformations, Verdict};
use nervewire_core::policy::RequestRef;
use nervewire_core::shard::MAX_BATCH_MESSAGES;
use wasmtime::component::{ComponentNamedList, Lift, Lower};

/// Batches that are not asked for after one that failed.
const BATCHES_LEFT_OUT: u32 = 1_000;

/// Of the time that a call may take, a batch is expected to take at most this part.
const PART_OF_DEADLINE: u64 = 4;

/// What an instance knows about how it is asked best.
#[derive(Debug, Default)]
pub(crate) struct Batches {
    /// How long the last call took per answer, in nanoseconds.
    answer_ns: u64,
    left_out: u32,
}

impl Batches {
    pub(crate) fn answer_ns(&self) -> u64 {
        self.answer_ns
    }

    pub(crate) fn took(&mut self, ns: u64, answers: usize) {
        self.answer_ns = ns / answers.max(1) as u64;
    }

    /// Whether so many questions are likely to be answered in one call.
    fn has_time(&self, questions: usize, deadline_ms: u64) -> bool {
        self.answer_ns.saturating_mul(questions as u64) <= deadline_ms * 1_000_000 / PART_OF_DEADLINE
    }
}

impl Instance {
    /// [`Instance::authorize`] for several requests of one client at once; `None`: they are to be asked one by one.
    pub fn authorize_all(&mut self, client: &Client, requests: &[RequestRef<'_>]) -> Option<Vec<Verdict>> {
        self.may_ask_all(Call::Authorize, |f| f.authorize_all.is_some(), requests.len())?;
        let facts = ClientFacts::new(client);
        let arena = CallArena::new(self.arena);
        let params = arena.passed((facts.lower(&arena), arena.placed_all(requests)));
        let parse = |verdicts: Verdicts| each_is_answered(requests.len(), verdicts.len()).map(|()| verdicts);
        let questions = requests.len();
        let answers = self.ask_all(&arena, Call::Authorize, questions, |f| f.authorize_all, params, parse)?;
        for (request, answer) in requests.iter().zip(&answers) {
            let question = TappedQuestion::Authorize(client, *request);
            self.tell(question, || Ok(TappedAnswer::Verdict(answer)));
        }
        Some(answers)
    }

    /// [`Instance::transform`] for several messages of one client at once; `None`: they are to be asked about one by one.
    pub fn transform_all(&mut self, client: &Client, messages: &[AppMessageRef<'_>]) -> Option<Transformations> {
        self.may_ask_all(Call::Transform, |f| f.transform_all.is_some(), messages.len())?;
        let max_message_bytes = self.plugin.max_message_bytes();
        let facts = ClientFacts::new(client);
        let arena = CallArena::new(self.arena);
        let params = arena.passed((facts.lower(&arena), arena.placed_all(messages)));
        let parse = |answers: lift::Transformations| {
            each_is_answered(messages.len(), answers.number)?;
            answer::transformations(answers.passed, answers.others, max_message_bytes)
        };
        let questions = messages.len();
        let answers = self.ask_all(&arena, Call::Transform, questions, |f| f.transform_all, params, parse)?;
        if self.plugin.tap().is_some() {
            for (position, message) in messages.iter().enumerate() {
                let Some(answer) = answers.at(position) else { continue };
                let question = TappedQuestion::Transform(client, *message);
                self.tell(question, || Ok(TappedAnswer::Transformation(answer)));
            }
        }
        Some(answers)
    }

    fn may_ask_all(&mut self, call: Call, has: impl FnOnce(&Functions) -> bool, questions: usize) -> Option<()> {
        self.last_call_ns = 0;
        let live = self.live.as_ref()?;
        let is_one = (1..=MAX_BATCH_MESSAGES).contains(&questions);
        if !is_one || !has(&live.functions) || !self.plugin.is_trusted() {
            return None;
        }
        if self.batches.left_out > 0 {
            self.batches.left_out -= 1;
            return None;
        }
        let has_time = self.batches.has_time(questions, self.plugin.deadline_ms(call));
        has_time.then_some(())
    }

    fn ask_all<Params, Answers, Parsed>(
        &mut self,
        arena: &CallArena,
        call: Call,
        questions: usize,
        function: impl FnOnce(&Functions) -> Option<Function<Params, AnswerList<Answers>>>,
        params: Params,
        parse: impl FnOnce(Answers) -> Result<Parsed, Invalid>,
    ) -> Option<Parsed>
    where
        Params: ComponentNamedList + Lower,
        Answers: List,
        (AnswerList<Answers>,): ComponentNamedList + Lift,
    {
        let answers = self.admitted(
            arena,
            call,
            questions,
            Admission::Pass,
            function,
            params,
            |AnswerList(answers)| parse(answers),
        );
        if answers.is_err() {
            self.batches.left_out = BATCHES_LEFT_OUT;
        }
        answers.ok()
    }
}

fn each_is_answered(questions: usize, answers: usize) -> Result<(), Invalid> {
    match answers == questions {
        true => Ok(()),
        false => Err(Invalid::Answers(answers, questions)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_takes_long_is_asked_one_by_one() {
        let mut batches = Batches::default();
        // Five milliseconds for a call: a quarter of that for sixteen answers.
        batches.took(16 * 78_000, 16);
        assert!(batches.has_time(16, 5) && !batches.has_time(17, 5));
        batches.took(1_300_000, 1);
        assert!(!batches.has_time(2, 5));
        batches.took(u64::MAX, 1);
        assert!(!batches.has_time(2, u64::from(u32::MAX)));
    }
}
