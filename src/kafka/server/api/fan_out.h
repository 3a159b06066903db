// fan_out: asks each shard once for everything that it owns of a request, all shards at the same
// time, and returns the answers in the order of the questions.
#pragma once

#include <map>
#include <utility>
#include <vector>

#include "kafka/server/server.h"
#include "runtime/remote.h"
#include "runtime/scope.h"

namespace weir::kafka {

namespace fan_out_detail {

template <class Question, class Answer,
          runtime::Task<std::vector<Answer>> (*here)(Server&, std::vector<Question>)>
runtime::Task<bool> ask(Server& server, runtime::ShardId owner, std::vector<Question> questions,
                        std::vector<size_t> places, std::vector<Answer>& answers) {
    std::vector<Answer> mine = co_await runtime::on(
        owner, [peer = &server.peer(owner), questions = std::move(questions)]() mutable {
            return here(*peer, std::move(questions));
        });
    for (size_t i = 0; i < places.size(); ++i) answers[places[i]] = std::move(mine[i]);
    co_return true;
}

}  // namespace fan_out_detail

// `here` runs on the owner's shard, with its Server.
template <class Question, class Answer,
          runtime::Task<std::vector<Answer>> (*here)(Server&, std::vector<Question>)>
runtime::Task<std::vector<Answer>> fan_out(
    Server& server, std::vector<std::pair<runtime::ShardId, Question>> questions) {
    std::map<runtime::ShardId, std::pair<std::vector<Question>, std::vector<size_t>>> by_owner;
    for (size_t i = 0; i < questions.size(); ++i) {
        auto& [asked, places] = by_owner[questions[i].first];
        asked.push_back(std::move(questions[i].second));
        places.push_back(i);
    }
    std::vector<Answer> answers(questions.size());
    std::vector<runtime::Task<bool>> tasks;
    for (auto& [owner, asked] : by_owner) {
        tasks.push_back(fan_out_detail::ask<Question, Answer, here>(
            server, owner, std::move(asked.first), std::move(asked.second), answers));
    }
    (void)co_await runtime::all(std::move(tasks));
    co_return answers;
}

}  // namespace weir::kafka
