// SPDX-License-Identifier: MIT
// A decode step of a transformer on memory that multiplies: a multiply-accumulate unit beside every bank, weights and
// cache mapped over all of them, an event-driven model of the banks that counts cycles and commands. It models, it
// computes no products.
//
//     channel 0                        channel 1 ...     a bank, in cycles
//       buffer <- x (one segment)        buffer <- x       idle -activate-> open -bursts-> open -precharge-> idle
//       bank 0: lanes MACs, row buffer   bank 0                  tRCD            tCCD each       tRP
//       bank 1: lanes MACs, row buffer   bank 1            and a refresh (tRFC, row closed) every tREFI
//       ...                              ...
//       results -> ASIC: partial sums, softmax, norms, activations
//
// Mapping (Wu, Wang, Lu, PIM-GPT, npj Unconventional Computing 2024, arXiv 2310.09385):
//
//   weights   outputs are spread evenly over all banks, each owned by one; parts differ by one output at most. Within a
//             bank the weights of one segment of x lie side by side, output after output, so an activated row is read
//             to its end. Q, K and V of all heads are one matrix, so are gate and up
//   keys      a token's keys are a stretch of a row of its owner, so q.K' is a product like the others, with tokens as
//             outputs. Tokens go round the channels, then round their banks
//   values    by column, so that the sum runs over tokens, with room for `context` tokens from the start: nothing moves
//             when a token is appended. `by_token`: in the bank that owns the token, which adds up its own tokens only;
//             the ASIC adds up the banks. `by_column`: a column, all its tokens, in one bank
//
// What is not modelled: rules between commands of different banks (tRRD, tFAW), the ASIC's own memory, errors. Banks
// refresh on their own, after the burst that is under way. Reading results and loading the next segment wait for all
// banks of the channel, the ASIC for all channels, and the next product for the ASIC.
#pragma once

#include "polymac/core/error.hpp"
#include "polymac/core/view.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <queue>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

POLYMAC_BEGIN
namespace probe {

/// The machine. Times are cycles of its clock. The defaults have the size of GDDR6 at 1 GHz; they are nobody's product.
struct near_memory_unit {
  std::size_t channels = 8;
  std::size_t banks = 16;    ///< of a channel
  std::size_t rows = 16384;  ///< of a bank
  std::size_t row_bytes = 2048;
  std::size_t lanes = 16;              ///< multiply-accumulates of a bank in one burst
  std::uint64_t activate = 18;         ///< tRCD
  std::uint64_t burst = 1;             ///< tCCD
  std::uint64_t precharge = 18;        ///< tRP
  std::uint64_t refresh_every = 1900;  ///< tREFI; 0: never
  std::uint64_t refresh = 120;         ///< tRFC
  std::size_t buffer_bytes = 2048;     ///< of a channel: one segment of x
  std::size_t bus_bytes = 32;          ///< between a channel and the ASIC, in a cycle
  std::size_t activation_bytes = 2;    ///< of x and of results
  std::size_t asic_operations = 256;   ///< in a cycle
  double gigahertz = 1.0;

  constexpr std::size_t all_banks() const noexcept { return channels * banks; }
  /// Values of x that a buffer holds.
  constexpr std::size_t segment() const noexcept { return buffer_bytes / activation_bytes; }
  /// Bursts of a row, of weights of so many bits.
  constexpr std::size_t row_bursts(std::size_t bits) const noexcept { return row_bytes * 8 / (lanes * bits); }
  constexpr status check() const noexcept {
    constexpr std::size_t most = 1 << 20;
    for (const std::size_t n : {channels, banks, rows, row_bytes, lanes, buffer_bytes, bus_bytes, asic_operations})
      if (n == 0 || n > most)
        return status::make(errc::parameter,
                            "near_memory: expected channels, banks, rows, bytes, lanes and operations "
                            "of 1 to ",
                            most, ", got ", n);
    if (burst == 0 || activation_bytes == 0 || segment() == 0)
      return status::make(errc::parameter,
                          "near_memory: expected bursts of a cycle at least, and a buffer that holds a "
                          "value of x");
    if (refresh_every != 0 && refresh_every <= refresh + activate + burst + precharge)
      return status::make(errc::parameter, "near_memory: refreshes every ", refresh_every,
                          " cycles leave no time for a burst between them");
    return {};
  }
};

/// Which banks have what. `banks` counts over all channels: bank b of channel c is c * banks of a channel + b.
struct near_memory_place {
  std::size_t bank = 0;
  std::size_t row = 0;    ///< of the matrix in this bank
  std::size_t burst = 0;  ///< of the row
  std::size_t lane = 0;
  friend constexpr bool operator==(const near_memory_place&, const near_memory_place&) noexcept = default;
};
/// The outputs of a bank: [first, last), of `outputs` over `banks`. Parts differ by one output at most.
constexpr column_range near_memory_part(std::size_t outputs, std::size_t banks, std::size_t bank) noexcept {
  return {outputs * bank / banks, outputs * (bank + 1) / banks};
}
/// The bank that owns a token, and which of its tokens it is.
struct near_memory_owner {
  std::size_t bank, slot;
  constexpr near_memory_owner(const near_memory_unit& u, std::size_t token) noexcept
      : bank(token % u.channels * u.banks + token / u.channels % u.banks), slot(token / u.all_banks()) {}
};
/// Tokens that a bank owns, of the first `tokens`.
constexpr std::size_t near_memory_tokens(const near_memory_unit& u, std::size_t tokens, std::size_t bank) noexcept {
  const std::size_t turn = bank % u.banks * u.channels + bank / u.banks;
  return tokens / u.all_banks() + (tokens % u.all_banks() > turn ? 1 : 0);
}

namespace detail {
constexpr std::size_t bursts_of(std::size_t count, std::size_t lanes) noexcept { return (count + lanes - 1) / lanes; }
constexpr std::size_t rows_of(std::size_t bursts, std::size_t row) noexcept { return (bursts + row - 1) / row; }
}  // namespace detail

/// Weights, outputs x depth, in banks: for each segment of x, for each output of the bank, the weights of the segment,
/// filled up to whole bursts, one burst after the other without gaps.
struct near_memory_weights {
  near_memory_unit unit;
  std::size_t outputs = 0, depth = 0, bits = 16;

  constexpr std::size_t segments() const noexcept { return detail::bursts_of(depth, unit.segment()); }
  constexpr std::size_t segment_depth(std::size_t s) const noexcept {
    return std::min(unit.segment(), depth - s * unit.segment());
  }
  /// Bursts of one output in a segment.
  constexpr std::size_t bursts(std::size_t s) const noexcept { return detail::bursts_of(segment_depth(s), unit.lanes); }
  constexpr std::size_t owned(std::size_t bank) const noexcept {
    const auto part = near_memory_part(outputs, unit.all_banks(), bank);
    return part.end - part.begin;
  }
  constexpr std::size_t bank_bursts(std::size_t bank) const noexcept {
    std::size_t n = 0;
    for (std::size_t s = 0; s < segments(); ++s) n += owned(bank) * bursts(s);
    return n;
  }
  constexpr std::size_t bank_rows(std::size_t bank) const noexcept {
    return detail::rows_of(bank_bursts(bank), unit.row_bursts(bits));
  }
  constexpr std::size_t bank_of(std::size_t output) const noexcept {
    std::size_t b = output * unit.all_banks() / outputs;
    while (near_memory_part(outputs, unit.all_banks(), b).end <= output) ++b;
    return b;
  }
  constexpr near_memory_place place(std::size_t output, std::size_t k) const noexcept {
    const std::size_t bank = bank_of(output), s = k / unit.segment(), within = k % unit.segment();
    std::size_t at = (output - near_memory_part(outputs, unit.all_banks(), bank).begin) * bursts(s);
    for (std::size_t before = 0; before < s; ++before) at += owned(bank) * bursts(before);
    at += within / unit.lanes;
    return {bank, at / unit.row_bursts(bits), at % unit.row_bursts(bits), within % unit.lanes};
  }
};

enum class value_mapping : unsigned char { by_token, by_column };

/// The keys and values of a layer, room for `context` tokens. Rows of keys and of values are counted on their own.
struct near_memory_cache {
  near_memory_unit unit;
  std::size_t heads = 1, head_size = 0, context = 0, bits = 16;
  value_mapping mapping = value_mapping::by_token;

  /// Tokens that a bank has room for.
  constexpr std::size_t slots() const noexcept { return detail::bursts_of(context, unit.all_banks()); }
  /// Bursts of a head's key, of a column's tokens in the bank that owns them.
  constexpr std::size_t key_bursts() const noexcept { return detail::bursts_of(head_size, unit.lanes); }
  constexpr std::size_t column_bursts() const noexcept {
    return detail::bursts_of(mapping == value_mapping::by_token ? slots() : context, unit.lanes);
  }
  constexpr std::size_t columns() const noexcept { return heads * head_size; }
  /// First burst of a head's key in its bank.
  constexpr std::size_t key_at(std::size_t slot, std::size_t head) const noexcept {
    return (slot * heads + head) * key_bursts();
  }
  constexpr near_memory_place key(std::size_t token, std::size_t head, std::size_t k) const noexcept {
    const near_memory_owner owner(unit, token);
    return place(owner.bank, key_at(owner.slot, head) + k / unit.lanes, k % unit.lanes);
  }
  constexpr near_memory_place value(std::size_t token, std::size_t head, std::size_t c) const noexcept {
    const std::size_t column = head * head_size + c;
    if (mapping == value_mapping::by_token) {
      const near_memory_owner owner(unit, token);
      return place(owner.bank, column * column_bursts() + owner.slot / unit.lanes, owner.slot % unit.lanes);
    }
    const near_memory_weights spread{unit, columns(), 1, bits};
    const std::size_t bank = spread.bank_of(column);
    const std::size_t own = column - near_memory_part(columns(), unit.all_banks(), bank).begin;
    return place(bank, own * column_bursts() + token / unit.lanes, token % unit.lanes);
  }
  constexpr std::size_t key_rows() const noexcept {
    return detail::rows_of(slots() * heads * key_bursts(), unit.row_bursts(bits));
  }
  constexpr std::size_t value_rows(std::size_t bank) const noexcept {
    const auto part = near_memory_part(columns(), unit.all_banks(), bank);
    const std::size_t own = mapping == value_mapping::by_token ? columns() : part.end - part.begin;
    return detail::rows_of(own * column_bursts(), unit.row_bursts(bits));
  }

 private:
  constexpr near_memory_place place(std::size_t bank, std::size_t at, std::size_t lane) const noexcept {
    return {bank, at / unit.row_bursts(bits), at % unit.row_bursts(bits), lane};
  }
};

/// What the banks, the buses and the ASIC did.
struct near_memory_commands {
  std::uint64_t activates = 0, precharges = 0, refreshes = 0;
  std::uint64_t bursts = 0;     ///< that multiply
  std::uint64_t writes = 0;     ///< bursts that write
  std::uint64_t bus_bytes = 0;  ///< segments of x, results, new keys and values, all channels together
  std::uint64_t asic_operations = 0;

  constexpr near_memory_commands& operator+=(const near_memory_commands& o) noexcept {
    activates += o.activates;
    precharges += o.precharges;
    refreshes += o.refreshes;
    bursts += o.bursts;
    writes += o.writes;
    bus_bytes += o.bus_bytes;
    asic_operations += o.asic_operations;
    return *this;
  }
  /// The share of bursts that found their row open.
  constexpr double row_hits() const noexcept {
    const std::uint64_t all = bursts + writes;
    return all > activates ? 1.0 - static_cast<double>(activates) / static_cast<double>(all) : 0.0;
  }
};
/// Picojoules of commands. No defaults: they are the process's.
struct near_memory_energy {
  double activate = 0;  ///< and the precharge that follows
  double burst = 0, write = 0, refresh = 0, bus_byte = 0, asic_operation = 0;
  constexpr double picojoules(const near_memory_commands& c) const noexcept {
    const auto real = [](std::uint64_t n) noexcept { return static_cast<double>(n); };
    return activate * real(c.activates) + burst * real(c.bursts) + write * real(c.writes) +
           refresh * real(c.refreshes) + bus_byte * real(c.bus_bytes) + asic_operation * real(c.asic_operations);
  }
};

/// A stretch of bursts of one row.
struct near_memory_visit {
  std::size_t segment = 0, row = 0, bursts = 0;
};
/// What all banks do at once: each walks through its visits, segment by segment.
struct near_memory_job {
  std::vector<std::vector<near_memory_visit>> banks;  ///< of each bank
  std::vector<std::vector<std::size_t>> loads;        ///< of each channel, for each segment: bytes before it begins
  std::vector<std::size_t> results;                   ///< of each channel: values read in the end
  bool writes = false;

  explicit near_memory_job(const near_memory_unit& u) : banks(u.all_banks()), loads(u.channels), results(u.channels) {}
  /// Appends bursts [first, first + count) of a bank, cut where rows end.
  void add(std::size_t bank, std::size_t segment, std::size_t first, std::size_t count, std::size_t row_bursts) {
    auto& visits = banks[bank];
    while (count > 0) {
      const std::size_t row = first / row_bursts, n = std::min(count, (row + 1) * row_bursts - first);
      if (!visits.empty() && visits.back().segment == segment && visits.back().row == row)
        visits.back().bursts += n;
      else
        visits.push_back({segment, row, n});
      first += n;
      count -= n;
    }
  }
};

/// Banks over time.
class near_memory_banks {
 public:
  explicit near_memory_banks(const near_memory_unit& unit) : unit_(unit), banks_(unit.all_banks()) {
    for (auto& b : banks_) b.refresh_due = unit.refresh_every;
  }
  std::uint64_t now() const noexcept { return now_; }
  /// Time goes on while no bank works: what is to be refreshed is refreshed meanwhile.
  void wait(std::uint64_t cycles, near_memory_commands& done) {
    now_ += cycles;
    if (unit_.refresh_every == 0) return;
    for (auto& b : banks_)
      while (b.refresh_due + unit_.refresh <= now_) {
        b.refresh_due += unit_.refresh_every;
        ++done.refreshes;
      }
  }
  /// From now until all results have been read.
  near_memory_commands run(const near_memory_job& job) {
    near_memory_commands done;
    struct channel_state {
      std::size_t segment = 0, busy = 0;
    };
    std::vector<channel_state> channels(unit_.channels);
    std::vector<std::size_t> visit(banks_.size()), bursts(banks_.size());
    std::priority_queue<event, std::vector<event>, std::greater<>> events;
    std::uint64_t end = now_;
    const auto bus = [&](std::uint64_t bytes) {
      done.bus_bytes += bytes;
      return detail::bursts_of(bytes, unit_.bus_bytes);
    };
    // Loads the next segment, or reads the results.
    const auto go_on = [&](std::size_t c, std::uint64_t t) {
      auto& channel = channels[c];
      if (channel.segment == job.loads[c].size()) {
        end = std::max(end, t + bus(job.results[c] * unit_.activation_bytes));
        return;
      }
      const std::uint64_t loaded = t + bus(job.loads[c][channel.segment]);
      channel.busy = unit_.banks;
      for (std::size_t b = 0; b < unit_.banks; ++b) events.push({loaded, c * unit_.banks + b});
    };
    for (std::size_t c = 0; c < unit_.channels; ++c) go_on(c, now_);
    while (!events.empty()) {
      const auto [t, i] = events.top();
      events.pop();
      auto& bank = banks_[i];
      auto& channel = channels[i / unit_.banks];
      const auto& visits = job.banks[i];
      const bool at_end = visit[i] == visits.size();
      const bool refreshes = unit_.refresh_every != 0 && t >= bank.refresh_due;
      const bool has_work = !at_end && visits[visit[i]].segment == channel.segment;
      const bool other_row = has_work && bank.open != none && bank.open != visits[visit[i]].row;
      if (bank.open != none && (refreshes || other_row || at_end)) {
        bank.open = none;
        ++done.precharges;
        events.push({t + unit_.precharge, i});
      } else if (refreshes) {
        bank.refresh_due += unit_.refresh_every;
        ++done.refreshes;
        events.push({t + unit_.refresh, i});
      } else if (!has_work) {  // waits for its channel
        if (--channel.busy > 0) continue;
        ++channel.segment;
        go_on(i / unit_.banks, t);
      } else if (bank.open == none) {
        bank.open = visits[visit[i]].row;
        ++done.activates;
        events.push({t + unit_.activate, i});
      } else {
        std::uint64_t n = visits[visit[i]].bursts - bursts[i];
        if (unit_.refresh_every != 0)  // the burst that is under way when a refresh falls due is the last one before it
          n = std::min<std::uint64_t>(n, detail::bursts_of(bank.refresh_due - t, unit_.burst));
        bursts[i] += n;
        (job.writes ? done.writes : done.bursts) += n;
        if (bursts[i] == visits[visit[i]].bursts) {
          ++visit[i];
          bursts[i] = 0;
        }
        events.push({t + n * unit_.burst, i});
      }
    }
    now_ = end;
    return done;
  }

 private:
  static constexpr std::size_t none = static_cast<std::size_t>(-1);
  struct bank_state {
    std::size_t open = none;
    std::uint64_t refresh_due = 0;
  };
  struct event {
    std::uint64_t time;
    std::size_t bank;
    friend constexpr bool operator>(const event& a, const event& b) noexcept {
      return a.time != b.time ? a.time > b.time : a.bank > b.bank;
    }
  };

  near_memory_unit unit_;
  std::vector<bank_state> banks_;
  std::uint64_t now_ = 0;
};

/// A decoder-only transformer.
struct near_memory_decoder {
  std::size_t dim = 0, layers = 0, heads = 1, kv_heads = 1, hidden = 0, vocabulary = 0;
  std::size_t context = 1024;    ///< tokens that there is room for
  bool gated = false;            ///< two matrices of hidden x dim before the activation
  std::size_t weight_bits = 16;  ///< 4, 8, 16
  std::size_t cache_bits = 16;

  constexpr std::size_t head_size() const noexcept { return heads > 0 ? dim / heads : 0; }
  constexpr std::size_t weights() const noexcept {
    return layers * (dim * (2 * dim + 2 * kv_heads * head_size()) + (gated ? 3 : 2) * dim * hidden) + vocabulary * dim;
  }
  constexpr status check() const noexcept {
    constexpr std::size_t most = 1 << 20;
    for (const std::size_t n : {dim, layers, heads, kv_heads, hidden, vocabulary, context})
      if (n == 0 || n > most)
        return status::make(errc::parameter, "near_memory: expected sizes of a decoder of 1 to ", most, ", got ", n);
    if (dim % heads != 0 || heads % kv_heads != 0)
      return status::make(errc::shape,
                          "near_memory: expected heads that divide dim, and kv_heads that divide heads, got "
                          "dim ",
                          dim, ", ", heads, " heads, ", kv_heads, " kv heads");
    if (weight_bits == 0 || weight_bits > 32 || cache_bits == 0 || cache_bits > 32)
      return status::make(errc::parameter, "near_memory: expected weights and cache of 1 to 32 bits, got ", weight_bits,
                          " and ", cache_bits);
    return {};
  }
};

/// One kind of work, all layers together.
struct near_memory_phase {
  std::string_view name;
  std::size_t outputs = 0, depth = 0, times = 0;
  std::uint64_t cycles = 0;       ///< from the first load to the last result
  std::uint64_t asic_cycles = 0;  ///< behind that
  near_memory_commands commands;
};
/// A token.
struct near_memory_step {
  near_memory_unit unit;
  near_memory_decoder decoder;
  value_mapping mapping = value_mapping::by_token;
  std::size_t tokens = 0;          ///< that were in the cache before
  std::size_t rows_of_a_bank = 0;  ///< weights and cache, the fullest bank
  std::vector<near_memory_phase> phases;

  near_memory_phase total() const noexcept {
    near_memory_phase all;
    all.name = "all";
    for (const auto& p : phases) {
      all.cycles += p.cycles;
      all.asic_cycles += p.asic_cycles;
      all.commands += p.commands;
    }
    return all;
  }
  std::uint64_t cycles() const noexcept { return total().cycles + total().asic_cycles; }
  double tokens_per_second() const noexcept {
    return cycles() > 0 ? unit.gigahertz * 1e9 / static_cast<double>(cycles()) : 0.0;
  }
};

namespace detail {

/// Operations of the ASIC for a value: additions and products, exp and 1/x by series.
inline constexpr std::uint64_t norm_operations = 4, softmax_operations = 12, activation_operations = 12,
                               addition_operations = 1;

}  // namespace detail

/// The product of a vector with weights.
inline near_memory_job weights_job(const near_memory_weights& w) {
  const auto& u = w.unit;
  near_memory_job job(u);
  for (std::size_t c = 0; c < u.channels; ++c) {
    std::size_t owned = 0;
    for (std::size_t b = c * u.banks; b < (c + 1) * u.banks; ++b) {
      owned += w.owned(b);
      std::size_t at = 0;
      for (std::size_t s = 0; s < w.segments(); ++s) {
        job.add(b, s, at, w.owned(b) * w.bursts(s), u.row_bursts(w.bits));
        at += w.owned(b) * w.bursts(s);
      }
    }
    if (owned == 0) continue;
    for (std::size_t s = 0; s < w.segments(); ++s) job.loads[c].push_back(w.segment_depth(s) * u.activation_bytes);
    job.results[c] = owned * w.segments();
  }
  return job;
}

/// q.K' of `tokens` tokens: queries of as many heads as fit the buffer are a segment.
inline near_memory_job scores_job(const near_memory_cache& cache, std::size_t query_heads, std::size_t tokens) {
  const auto& u = cache.unit;
  near_memory_job job(u);
  const std::size_t fit = u.segment() / cache.head_size, group = query_heads / cache.heads;
  for (std::size_t b = 0; b < u.all_banks(); ++b) {
    const std::size_t owned = near_memory_tokens(u, tokens, b);
    for (std::size_t first = 0, s = 0; first < query_heads; first += fit, ++s)
      for (std::size_t slot = 0; slot < owned; ++slot)
        for (std::size_t q = first; q < std::min(first + fit, query_heads); ++q)
          job.add(b, s, cache.key_at(slot, q / group), cache.key_bursts(), u.row_bursts(cache.bits));
    job.results[b / u.banks] += owned * query_heads;
  }
  for (std::size_t c = 0; c < u.channels; ++c)
    for (std::size_t first = 0; job.results[c] > 0 && first < query_heads; first += fit)
      job.loads[c].push_back(std::min(fit, query_heads - first) * cache.head_size * u.activation_bytes);
  return job;
}

/// p.V of `tokens` tokens: the weights of as many heads as fit the buffer are a segment; by column, where those of one
/// head do not fit, as many tokens as do.
inline near_memory_job context_job(const near_memory_cache& cache, std::size_t query_heads, std::size_t tokens) {
  const auto& u = cache.unit;
  near_memory_job job(u);
  const bool by_token = cache.mapping == value_mapping::by_token;
  const std::size_t group = query_heads / cache.heads, most = u.segment();
  for (std::size_t c = 0; c < u.channels; ++c) {
    // Weights of a head that this channel needs.
    std::size_t need = by_token ? 0 : tokens, owned = 0;
    for (std::size_t b = c * u.banks; b < (c + 1) * u.banks; ++b) {
      if (by_token) need += near_memory_tokens(u, tokens, b);
      const auto part = near_memory_part(cache.columns(), u.all_banks(), b);
      owned += by_token ? 1 : part.end - part.begin;
    }
    if (need == 0 || owned == 0) continue;
    const std::size_t pieces = detail::bursts_of(need, most), fit = pieces > 1 ? 1 : most / need;
    for (std::size_t first = 0, s = 0; first < query_heads; first += fit)
      for (std::size_t piece = 0; piece < pieces; ++piece, ++s) {
        const std::size_t heads = std::min(fit, query_heads - first), from = piece * most;
        const std::size_t count = std::min(most, need - from);
        job.loads[c].push_back(heads * count * u.activation_bytes);
        for (std::size_t b = c * u.banks; b < (c + 1) * u.banks; ++b) {
          const auto part =
              by_token ? column_range{0, cache.columns()} : near_memory_part(cache.columns(), u.all_banks(), b);
          const std::size_t here = by_token ? near_memory_tokens(u, tokens, b) : count;
          if (here == 0) continue;
          // A column for all the heads that share it: while its row is open.
          for (std::size_t kv = first / group; kv <= (first + heads - 1) / group; ++kv)
            for (std::size_t at = kv * cache.head_size; at < (kv + 1) * cache.head_size; ++at) {
              if (at < part.begin || at >= part.end) continue;
              const std::size_t burst = (at - part.begin) * cache.column_bursts() + (by_token ? 0 : from / u.lanes);
              for (std::size_t q = std::max(first, kv * group); q < std::min(first + heads, (kv + 1) * group); ++q) {
                job.add(b, s, burst, detail::bursts_of(here, u.lanes), u.row_bursts(cache.bits));
                ++job.results[c];
              }
            }
        }
      }
  }
  return job;
}

/// Writes the keys and values of a token.
inline near_memory_job append_job(const near_memory_cache& cache, std::size_t token) {
  const auto& u = cache.unit;
  near_memory_job job(u);
  job.writes = true;
  const std::size_t row = u.row_bursts(cache.bits);
  const near_memory_owner owner(u, token);
  std::vector<std::size_t> bytes(u.channels);
  job.add(owner.bank, 0, cache.key_at(owner.slot, 0), cache.heads * cache.key_bursts(), row);
  bytes[owner.bank / u.banks] += cache.columns() * u.activation_bytes;
  for (std::size_t c = 0; c < cache.columns(); ++c) {
    const auto at = cache.value(token, c / cache.head_size, c % cache.head_size);
    // Rows of values lie behind those of the keys.
    job.add(at.bank, 0, (cache.key_rows() + at.row) * row + at.burst, 1, row);
    bytes[at.bank / u.banks] += u.activation_bytes;
  }
  for (std::size_t c = 0; c < u.channels; ++c)
    if (bytes[c] > 0) job.loads[c].push_back(bytes[c]);
  return job;
}

/// Work of one decode step, phase by phase: QKV, append, scores, context, output, up (and gate), down of each layer,
/// then the classifier. The new token sees the `tokens` of the cache and itself. Refuses sizes that do not fit each
/// other, the buffer or the banks. Allocates. O(rows of all banks + tokens * heads) time, and more for each
/// refresh.
inline result<near_memory_step> near_memory_decode(const near_memory_unit& unit, const near_memory_decoder& d,
                                                   std::size_t tokens,
                                                   value_mapping mapping = value_mapping::by_token) {
  auto s = unit.check();
  if (s.ok()) s = d.check();
  if (!s.ok()) return s;
  const near_memory_cache cache{unit, d.kv_heads, d.head_size(), d.context, d.cache_bits, mapping};
  if (tokens >= d.context)
    return status::make(errc::shape, "near_memory: expected fewer tokens in the cache than it has room for, got ",
                        tokens, " of ", d.context);
  if (unit.row_bursts(d.weight_bits) == 0 || unit.row_bursts(d.cache_bits) == 0)
    return status::make(errc::parameter, "near_memory: a row of ", unit.row_bytes, " bytes holds no burst of ",
                        unit.lanes, " lanes");
  if (unit.segment() < d.head_size())
    return status::make(errc::parameter, "near_memory: the buffer holds ", unit.segment(),
                        " values, less than a head's ", d.head_size());
  if (mapping == value_mapping::by_token && detail::bursts_of(tokens + 1, unit.channels) > unit.segment())
    return status::make(errc::parameter,
                        "near_memory: by token the buffer must hold a weight for each token of its "
                        "channel: ",
                        unit.segment(), " of ", tokens + 1, " / ", unit.channels);

  near_memory_step step{unit, d, mapping, tokens, 0, {}};
  near_memory_banks banks(unit);
  const std::size_t kv = d.kv_heads * d.head_size(), seen = tokens + 1, up = (d.gated ? 2 : 1) * d.hidden;
  const near_memory_weights qkv{unit, d.dim + 2 * kv, d.dim, d.weight_bits}, output{unit, d.dim, d.dim, d.weight_bits},
      first{unit, up, d.dim, d.weight_bits}, second{unit, d.dim, d.hidden, d.weight_bits},
      classifier{unit, d.vocabulary, d.dim, d.weight_bits};
  for (std::size_t b = 0; b < unit.all_banks(); ++b) {
    const std::size_t layer = qkv.bank_rows(b) + output.bank_rows(b) + first.bank_rows(b) + second.bank_rows(b) +
                              cache.key_rows() + cache.value_rows(b);
    step.rows_of_a_bank = std::max(step.rows_of_a_bank, d.layers * layer + classifier.bank_rows(b));
  }
  if (step.rows_of_a_bank > unit.rows)
    return status::make(errc::short_buffer, "near_memory: weights and cache take ", step.rows_of_a_bank,
                        " rows of a bank, of ", unit.rows);

  struct work {
    near_memory_job job;
    std::uint64_t operations;
    near_memory_phase phase;
  };
  std::vector<work> layer;
  const auto add = [](std::vector<work>& to, std::string_view name, std::size_t outputs, std::size_t depth,
                      near_memory_job&& job, std::uint64_t operations) {
    // Partial sums of several segments or banks are added up.
    std::uint64_t results = 0;
    for (const std::size_t r : job.results) results += r;
    const std::uint64_t sums = results > outputs ? results - outputs : 0;
    to.push_back(
        {std::move(job), operations + detail::addition_operations * sums, {name, outputs, depth, 0, 0, 0, {}}});
  };
  using namespace detail;
  add(layer, "qkv", qkv.outputs, d.dim, weights_job(qkv), norm_operations * d.dim);
  add(layer, "append", 2 * kv, 1, append_job(cache, tokens), 0);
  add(layer, "scores", d.heads * seen, d.head_size(), scores_job(cache, d.heads, seen),
      softmax_operations * d.heads * seen);
  add(layer, "context", d.dim, seen, context_job(cache, d.heads, seen), 0);
  add(layer, "output", d.dim, d.dim, weights_job(output), (addition_operations + norm_operations) * d.dim);
  add(layer, d.gated ? "gate, up" : "up", up, d.dim, weights_job(first), activation_operations * d.hidden);
  add(layer, "down", d.dim, d.hidden, weights_job(second), addition_operations * d.dim);
  std::vector<work> last;
  add(last, "classifier", d.vocabulary, d.dim, weights_job(classifier), norm_operations * d.dim + d.vocabulary);

  const auto run = [&](work& w) {
    const std::uint64_t start = banks.now();
    w.phase.commands += banks.run(w.job);
    w.phase.cycles += banks.now() - start;
    const std::uint64_t asic = (w.operations + unit.asic_operations - 1) / unit.asic_operations;
    banks.wait(asic, w.phase.commands);
    w.phase.asic_cycles += asic;
    w.phase.commands.asic_operations += w.operations;
    ++w.phase.times;
  };
  for (std::size_t l = 0; l < d.layers; ++l)
    for (auto& w : layer) run(w);
  run(last[0]);
  for (auto& w : layer) step.phases.push_back(w.phase);
  step.phases.push_back(last[0].phase);
  return step;
}

/// The step as an aligned table, a line for each phase and one for all of them.
inline std::string near_memory_table(const near_memory_step& step, const near_memory_energy* energy = nullptr) {
  const auto rounded = [](double v, int digits) {  // no locale
    std::uint64_t scale = 1;
    for (int i = 0; i < digits; ++i) scale *= 10;
    const auto all = static_cast<std::uint64_t>(v * static_cast<double>(scale) + 0.5);
    std::string text = std::to_string(all / scale), fraction = std::to_string(all % scale);
    if (digits > 0) text += '.' + std::string(static_cast<std::size_t>(digits) - fraction.size(), '0') + fraction;
    return text;
  };
  std::vector<std::vector<std::string>> lines;
  lines.push_back({"work", "outputs", "depth", "times", "cycles", "ASIC cycles", "activates", "bursts", "writes",
                   "row hits", "banks busy"});
  if (energy != nullptr) lines.front().push_back("nJ");
  auto phases = step.phases;
  phases.push_back(step.total());
  const auto banks = static_cast<double>(step.unit.all_banks());
  for (const auto& p : phases) {
    const auto& c = p.commands;
    const bool all = p.times == 0;
    const double busy = static_cast<double>((c.bursts + c.writes) * step.unit.burst);
    lines.push_back({std::string(p.name), all ? "" : std::to_string(p.outputs), all ? "" : std::to_string(p.depth),
                     all ? "" : std::to_string(p.times), std::to_string(p.cycles), std::to_string(p.asic_cycles),
                     std::to_string(c.activates), std::to_string(c.bursts), std::to_string(c.writes),
                     rounded(100 * c.row_hits(), 1) + " %",
                     p.cycles > 0 ? rounded(100 * busy / (banks * static_cast<double>(p.cycles)), 1) + " %" : "-"});
    if (energy != nullptr) lines.back().push_back(rounded(energy->picojoules(c) / 1000, 1));
  }
  std::vector<std::size_t> widths(lines.front().size());
  for (const auto& line : lines)
    for (std::size_t i = 0; i < line.size(); ++i) widths[i] = std::max(widths[i], line[i].size());
  std::string text;
  for (const auto& line : lines) {
    for (std::size_t i = 0; i < line.size(); ++i) {
      const std::string gap(widths[i] - line[i].size(), ' ');
      text += i == 0 ? line[i] + gap : "  " + gap + line[i];
    }
    text += '\n';
  }
  const auto& u = step.unit;
  text += std::to_string(u.channels) + " channels x " + std::to_string(u.banks) + " banks x " +
          std::to_string(u.lanes) + " lanes, rows of " + std::to_string(u.row_bytes) + " bytes; " +
          std::to_string(step.tokens) + " tokens in the cache; " + std::to_string(step.rows_of_a_bank) +
          " rows of a bank; " + std::to_string(step.cycles()) + " cycles, " + rounded(step.tokens_per_second(), 1) +
          " tokens/s\n";
  return text;
}

}  // namespace probe
POLYMAC_END
