// SPDX-License-Identifier: MIT
// The model of memory that multiplies: counts that can be done by hand, and what a mapping must keep.
#include "catch.hpp"

#include <polymac/probe/near_memory.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <iostream>
#include <set>
#include <sstream>
#include <string>
#include <tuple>
#include <vector>

using namespace polymac;
using namespace polymac::probe;

namespace {

/// One bank: rows of 8 bursts of 4 lanes of 16 bits, segments of 32 values, 4 values in a cycle on the bus.
near_memory_unit small_unit() {
  near_memory_unit u;
  u.channels = 1;
  u.banks = 1;
  u.row_bytes = 64;
  u.lanes = 4;
  u.activate = 18;
  u.burst = 1;
  u.precharge = 18;
  u.refresh_every = 0;
  u.buffer_bytes = 64;
  u.bus_bytes = 8;
  return u;
}

struct outcome {
  std::uint64_t cycles = 0;
  near_memory_commands commands;
};
outcome run(const near_memory_unit& u, std::size_t outputs, std::size_t depth) {
  near_memory_banks banks(u);
  outcome o;
  o.commands = banks.run(weights_job({u, outputs, depth, 16}));
  o.cycles = banks.now();
  return o;
}

constexpr near_memory_decoder gpt2_small{768, 12, 12, 12, 3072, 50257, 1024, false, 16, 16};
constexpr near_memory_decoder stories260k{64, 5, 8, 4, 172, 512, 512, true, 16, 16};

const near_memory_phase& phase(const near_memory_step& s, std::string_view name) {
  return *std::find_if(s.phases.begin(), s.phases.end(), [&](const auto& p) { return p.name == name; });
}

}  // namespace

TEST_CASE("near memory: one bank by hand") {
  const near_memory_unit u = small_unit();
  REQUIRE(u.check().ok());
  REQUIRE(u.row_bursts(16) == 8);
  // 2 outputs of 16: 8 bursts, exactly a row. 4 cycles of x, activate, bursts, precharge, 1 cycle of results.
  auto o = run(u, 2, 16);
  CHECK(o.cycles == 4 + 18 + 8 + 18 + 1);
  CHECK(o.commands.activates == 1);
  CHECK(o.commands.precharges == 1);
  CHECK(o.commands.bursts == 8);
  CHECK(o.commands.bus_bytes == 16 * 2 + 2 * 2);
  // 5 outputs: 20 bursts in 3 rows.
  o = run(u, 5, 16);
  CHECK(o.cycles == 4 + 3 * (18 + 18) + 20 + 2);
  CHECK(o.commands.activates == 3);
  CHECK(o.commands.row_hits() == 1.0 - 3.0 / 20.0);
  // 15 of 16 k: bursts are filled up.
  CHECK(run(u, 2, 13).commands.bursts == 8);
  // 3 outputs of 40 in segments of 32 and 8: 24 + 6 bursts in 4 rows; the second segment is loaded behind the first.
  o = run(u, 3, 40);
  CHECK(o.commands.bursts == 30);
  CHECK(o.commands.activates == 4);
  CHECK(o.cycles == 8 + 4 * (18 + 18) + 30 + 2 + (3 * 2 * 2 + 7) / 8);
  // A row that two segments share stays open between them.
  auto narrow = u;
  narrow.buffer_bytes = 32;
  o = run(narrow, 1, 24);
  CHECK(o.commands.activates == 1);
  CHECK(o.cycles == 4 + 18 + 4 + 2 + 2 + 18 + 1);
}

TEST_CASE("near memory: refreshes close rows") {
  auto u = small_unit();
  u.refresh_every = 100;
  u.refresh = 20;
  REQUIRE(u.check().ok());
  // Rows at 4 to 48 and 48 to 92; the third is open at 110: precharged until 128, refreshed until 148, open at 166.
  const auto o = run(u, 5, 16);
  CHECK(o.cycles == 188 + 2);
  CHECK(o.commands.refreshes == 1);
  CHECK(o.commands.activates == 4);
  CHECK(o.commands.precharges == 4);
  CHECK(o.commands.bursts == 20);
  // While nobody asks, refreshes cost no time.
  near_memory_banks banks(u);
  near_memory_commands waited;
  banks.wait(1000, waited);
  CHECK(waited.refreshes == 9);  // the tenth is due at 1000
  u.refresh_every = 20 + 18 + 1 + 18;
  CHECK(u.check().text() == "near_memory: refreshes every 57 cycles leave no time for a burst between them");
}

TEST_CASE("near memory: banks work side by side") {
  auto u = small_unit();
  u.channels = 2;
  u.banks = 4;
  // 16 outputs of 16: 2 for each bank, all at once; a channel reads 8 results of 2 bytes.
  const auto o = run(u, 16, 16);
  CHECK(o.cycles == 4 + 18 + 8 + 18 + 2);
  CHECK(o.commands.activates == 8);
  CHECK(o.commands.bursts == 64);
  CHECK(o.commands.bus_bytes == 2 * 32 + 16 * 2);
  // One output more: one bank has two rows.
  CHECK(run(u, 17, 16).cycles == 4 + 2 * (18 + 18) + 12 + 3);
  // A single output: one channel works.
  CHECK(run(u, 1, 16).commands.bus_bytes == 32 + 2);
}

TEST_CASE("near memory: every weight has one place, parts differ by one output at most") {
  auto u = small_unit();
  u.channels = 3;
  u.banks = 2;
  for (const std::size_t outputs : {1u, 5u, 6u, 7u, 40u}) {
    for (const std::size_t depth : {1u, 4u, 31u, 33u, 70u}) {
      CAPTURE(outputs, depth);
      const near_memory_weights w{u, outputs, depth, 16};
      std::set<std::tuple<std::size_t, std::size_t, std::size_t, std::size_t>> places;
      std::vector<std::size_t> rows(u.all_banks());
      for (std::size_t o = 0; o < outputs; ++o)
        for (std::size_t k = 0; k < depth; ++k) {
          const auto p = w.place(o, k);
          REQUIRE(p.bank == w.bank_of(o));
          REQUIRE(p.burst < u.row_bursts(16));
          REQUIRE(p.lane < u.lanes);
          rows[p.bank] = std::max(rows[p.bank], p.row + 1);
          places.insert({p.bank, p.row, p.burst, p.lane});
        }
      CHECK(places.size() == outputs * depth);
      std::size_t least = outputs, most = 0, all = 0;
      std::uint64_t all_rows = 0, all_bursts = 0;
      for (std::size_t b = 0; b < u.all_banks(); ++b) {
        least = std::min(least, w.owned(b));
        most = std::max(most, w.owned(b));
        all += w.owned(b);
        CHECK(rows[b] == w.bank_rows(b));
        CHECK(w.bank_rows(b) == (w.bank_bursts(b) + 7) / 8);
        all_rows += w.bank_rows(b);
        all_bursts += w.bank_bursts(b);
      }
      CHECK(all == outputs);
      CHECK(most - least <= 1);
      // Each row is activated once, and read to its end.
      const auto o = run(u, outputs, depth);
      CHECK(o.commands.activates == all_rows);
      CHECK(o.commands.precharges == all_rows);
      CHECK(o.commands.bursts == all_bursts);
    }
  }
}

TEST_CASE("near memory: tokens go round, an appended one touches its owner") {
  auto u = small_unit();
  u.channels = 2;
  u.banks = 3;
  const auto mapping = GENERATE(value_mapping::by_token, value_mapping::by_column);
  const near_memory_cache cache{u, 2, 6, 50, 16, mapping};
  std::vector<std::size_t> owned(6);
  std::set<std::tuple<std::size_t, std::size_t, std::size_t, std::size_t>> keys, values;
  for (std::size_t token = 0; token < 50; ++token) {
    const near_memory_owner owner(u, token);
    CHECK(owner.slot == owned[owner.bank]);
    ++owned[owner.bank];
    for (std::size_t b = 0; b < 6; ++b) CHECK(near_memory_tokens(u, token + 1, b) == owned[b]);
    CHECK(*std::max_element(owned.begin(), owned.end()) - *std::min_element(owned.begin(), owned.end()) <= 1);
    for (std::size_t head = 0; head < 2; ++head)
      for (std::size_t k = 0; k < 6; ++k) {
        const auto key = cache.key(token, head, k), value = cache.value(token, head, k);
        CHECK(key.bank == owner.bank);
        CHECK(key.row < cache.key_rows());
        CHECK(value.row < cache.value_rows(value.bank));
        if (mapping == value_mapping::by_token) CHECK(value.bank == owner.bank);
        keys.insert({key.bank, key.row, key.burst, key.lane});
        values.insert({value.bank, value.row, value.burst, value.lane});
      }
    // What is written: the key's bursts, an element of each column.
    const auto job = append_job(cache, token);
    std::size_t written = 0, touched = 0;
    for (std::size_t b = 0; b < 6; ++b) {
      touched += job.banks[b].empty() ? 0 : 1;
      for (const auto& v : job.banks[b]) written += v.bursts;
    }
    CHECK(written == 2 * 2 + 12);
    if (mapping == value_mapping::by_token) {
      CHECK(touched == 1);
      CHECK(!job.banks[owner.bank].empty());
    } else {
      CHECK(touched == 6);
    }
    near_memory_banks banks(u);
    const auto done = banks.run(job);
    CHECK(done.writes == written);
    CHECK(done.bursts == 0);
    std::uint64_t visits = 0;
    for (const auto& b : job.banks) visits += b.size();
    CHECK(done.activates == visits);
  }
  CHECK(keys.size() == 50 * 12);
  CHECK(values.size() == 50 * 12);
}

TEST_CASE("near memory: attention by hand") {
  auto u = small_unit();
  // 2 query heads of 4 on one key head; 8 tokens: 8 bursts of keys in a row, each read for both heads.
  const near_memory_cache cache{u, 1, 4, 16, 16, value_mapping::by_token};
  near_memory_banks banks(u);
  auto done = banks.run(scores_job(cache, 2, 8));
  CHECK(done.activates == 1);
  CHECK(done.bursts == 16);
  CHECK(banks.now() == 2 + 18 + 16 + 18 + 4);
  // Values: 4 columns with room for 16 tokens, so 4 bursts each and two columns in a row; 8 tokens are 2 bursts.
  near_memory_banks fresh(u);
  done = fresh.run(context_job(cache, 1, 8));
  CHECK(done.activates == 2);
  CHECK(done.bursts == 8);
  CHECK(fresh.now() == 2 + 2 * (18 + 18) + 8 + 1);
  // For two heads that share the values the rows are the same, the bursts and results twice as many.
  near_memory_banks both(u);
  done = both.run(context_job(cache, 2, 8));
  CHECK(done.activates == 2);
  CHECK(done.bursts == 16);
  CHECK(both.now() == 4 + 2 * (18 + 18) + 16 + 2);
  // By column in one bank it is the same.
  auto by_column = cache;
  by_column.mapping = value_mapping::by_column;
  near_memory_banks again(u);
  done = again.run(context_job(by_column, 1, 8));
  CHECK(again.now() == fresh.now());
  // A buffer of 4 values: weights of 8 tokens are two pieces, of which each reads all columns.
  u.buffer_bytes = 8;
  by_column.unit = u;
  near_memory_banks narrow(u);
  done = narrow.run(context_job(by_column, 1, 8));
  CHECK(done.bursts == 8);
  CHECK(done.activates == 4);
  CHECK(done.bus_bytes == 2 * 8 + 2 * 4 * 2);
}

TEST_CASE("near memory: a decode step of GPT-2 small and of stories260K") {
  near_memory_unit u;
  u.refresh_every = 0;
  for (const auto& decoder : {gpt2_small, stories260k}) {
    const std::size_t tokens = decoder.context / 2;
    for (const auto mapping : {value_mapping::by_token, value_mapping::by_column}) {
      const auto step = near_memory_decode(u, decoder, tokens, mapping);
      REQUIRE(step.status().text() == "");
      const auto all = step->total();
      // Weights: each row once, each weight in one burst.
      const auto& d = decoder;
      const std::size_t kv = d.kv_heads * d.head_size();
      const std::tuple<const char*, std::size_t, std::size_t> matrices[] = {
          {"qkv", d.dim + 2 * kv, d.dim},
          {"output", d.dim, d.dim},
          {d.gated ? "gate, up" : "up", (d.gated ? 2 : 1) * d.hidden, d.dim},
          {"down", d.dim, d.hidden},
          {"classifier", d.vocabulary, d.dim}};
      std::uint64_t weights = 0;
      for (const auto& [name, outputs, depth] : matrices) {
        CAPTURE(name);
        const near_memory_weights w{u, outputs, depth, 16};
        std::uint64_t rows = 0;
        for (std::size_t b = 0; b < u.all_banks(); ++b) rows += w.bank_rows(b);
        const auto& p = phase(*step, name);
        CHECK(p.times == (p.name == "classifier" ? 1 : d.layers));
        CHECK(p.commands.activates == rows * p.times);
        CHECK(p.commands.bursts == outputs * ((depth + 15) / 16) * p.times);
        weights += outputs * depth * p.times;
        // No bank works more than the mean and one output.
        const std::uint64_t mean = p.commands.bursts / p.times / u.all_banks();
        std::size_t most = 0;
        for (std::size_t b = 0; b < u.all_banks(); ++b) most = std::max(most, w.bank_bursts(b));
        CHECK(most <= mean + (depth + 15) / 16);
        CHECK(p.cycles >= p.times * most);
      }
      CHECK(weights == d.weights());
      // Keys: each token's, for each query head.
      const auto& scores = phase(*step, "scores").commands;
      CHECK(scores.bursts == (tokens + 1) * d.heads * ((d.head_size() + 15) / 16) * d.layers);
      CHECK(phase(*step, "append").commands.writes == (kv + d.kv_heads * ((d.head_size() + 15) / 16)) * d.layers);
      CHECK(all.commands.activates == all.commands.precharges);
      CHECK(all.commands.refreshes == 0);
      CHECK(step->cycles() == all.cycles + all.asic_cycles);
      // Refreshes cost time and activates, and no bursts.
      const auto refreshed = near_memory_decode(near_memory_unit(), decoder, tokens, mapping);
      REQUIRE(refreshed.ok());
      CHECK(refreshed->total().commands.bursts == all.commands.bursts);
      CHECK(refreshed->total().commands.activates >= all.commands.activates);
      CHECK(refreshed->cycles() >= step->cycles());
      CHECK(refreshed->total().commands.refreshes > 0);
      std::cout << (d.dim == 768 ? "GPT-2 small, values by " : "stories260K, values by ")
                << (mapping == value_mapping::by_token ? "token\n" : "column\n") << near_memory_table(*refreshed)
                << '\n';
    }
  }
  // GPT-2 small: 123.5 M of its 124.4 M parameters; the others are positions, norms and biases.
  CHECK(gpt2_small.weights() == 12 * (4 * 768 * 768 + 2 * 768 * 3072) + 50257 * 768);
  CHECK(gpt2_small.weights() == 123532032);
  CHECK(stories260k.weights() == 5 * (64 * 64 * 2 + 2 * 32 * 64 + 3 * 172 * 64) + 512 * 64);
}

TEST_CASE("near memory: fewer bits and more banks take less time") {
  const near_memory_unit u;
  const auto cycles = [&](const near_memory_unit& unit, std::size_t bits) {
    auto d = gpt2_small;
    d.layers = 1;
    d.weight_bits = bits;
    const auto step = near_memory_decode(unit, d, 100);
    REQUIRE(step.ok());
    return phase(*step, "up").cycles;
  };
  // Half the rows; the bursts are as many, for lanes are. More lanes are what makes them fewer.
  CHECK(cycles(u, 8) < cycles(u, 16));
  CHECK(cycles(u, 4) < cycles(u, 8));
  auto wide = u;
  wide.lanes = 32;
  CHECK(cycles(wide, 8) < cycles(u, 8));
  auto more = u;
  more.channels = 16;
  CHECK(cycles(more, 16) < cycles(u, 16));
}

TEST_CASE("near memory: energy and the table") {
  auto d = stories260k;
  const auto step = near_memory_decode({}, d, 3);
  REQUIRE(step.ok());
  const near_memory_energy energy{1000, 10, 20, 5000, 1, 0.5};
  const auto c = step->total().commands;
  double expected = 1000.0 * static_cast<double>(c.activates) + 10.0 * static_cast<double>(c.bursts) +
                    20.0 * static_cast<double>(c.writes) + 5000.0 * static_cast<double>(c.refreshes) +
                    static_cast<double>(c.bus_bytes) + 0.5 * static_cast<double>(c.asic_operations);
  CHECK(energy.picojoules(c) == expected);
  double phases = 0;
  for (const auto& p : step->phases) phases += energy.picojoules(p.commands);
  CHECK(std::abs(phases - expected) < 1e-6 * expected);
  for (const bool with_energy : {false, true}) {
    const std::string table = near_memory_table(*step, with_energy ? &energy : nullptr);
    std::istringstream text(table);
    std::string line;
    std::vector<std::string> lines;
    while (std::getline(text, line)) lines.push_back(line);
    REQUIRE(lines.size() == 1 + 8 + 1 + 1);
    for (std::size_t i = 1; i < 10; ++i) CHECK(lines[i].size() == lines[0].size());
    CHECK(lines[0].rfind("work ", 0) == 0);
    CHECK(lines[8].rfind("classifier      512     64      1", 0) == 0);
    CHECK(lines[9].rfind("all ", 0) == 0);
    CHECK((lines[0].find(" nJ") != std::string::npos) == with_energy);
    CHECK(lines[10].rfind("8 channels x 16 banks x 16 lanes, rows of 2048 bytes; 3 tokens in the cache; ", 0) == 0);
  }
}

TEST_CASE("near memory: what does not fit is told") {
  const auto told = [](const near_memory_unit& u, const near_memory_decoder& d, std::size_t tokens) {
    return std::string(near_memory_decode(u, d, tokens).status().text());
  };
  const near_memory_unit u;
  CHECK(told(u, gpt2_small, 1023) == "");
  CHECK(told(u, gpt2_small, 1024) ==
        "near_memory: expected fewer tokens in the cache than it has room for, got 1024 of 1024");
  auto bad = u;
  bad.lanes = 0;
  CHECK(told(bad, gpt2_small, 1) ==
        "near_memory: expected channels, banks, rows, bytes, lanes and operations of 1 to 1048576, got 0");
  bad = u;
  bad.row_bytes = 16;
  CHECK(told(bad, gpt2_small, 1) == "near_memory: a row of 16 bytes holds no burst of 16 lanes");
  bad = u;
  bad.buffer_bytes = 100;
  CHECK(told(bad, gpt2_small, 1) == "near_memory: the buffer holds 50 values, less than a head's 64");
  bad = u;
  bad.rows = 100;
  CHECK(told(bad, gpt2_small, 1).find("rows of a bank, of 100") != std::string::npos);
  bad = u;
  bad.buffer_bytes = 128;
  CHECK(told(bad, gpt2_small, 1000) ==
        "near_memory: by token the buffer must hold a weight for each token of its channel: 64 of 1001 / 8");
  auto d = gpt2_small;
  d.heads = 5;
  CHECK(
      told(u, d, 1) ==
      "near_memory: expected heads that divide dim, and kv_heads that divide heads, got dim 768, 5 heads, 12 kv heads");
  d = gpt2_small;
  d.layers = 0;
  CHECK(told(u, d, 1) == "near_memory: expected sizes of a decoder of 1 to 1048576, got 0");
  d = gpt2_small;
  d.weight_bits = 0;
  CHECK(told(u, d, 1) == "near_memory: expected weights and cache of 1 to 32 bits, got 0 and 16");
}
