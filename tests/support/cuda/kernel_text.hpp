// Rewrites the preprocessed text of a CUDA program where macros cannot help, and finds its kernels.
//
// - `extern __shared__ T x[];` becomes a pointer to the memory that the launch asks for.
// - A variable in shared memory is filled when a block meets it first.
// - A variable of the device becomes visible to cuModuleGetGlobal.
#pragma once

#include <cctype>
#include <string>
#include <vector>

namespace anvil_emulated {

struct FoundKernel {
  std::string name;
  std::string bounds;  // the arguments of __launch_bounds__, or "1024"
};

class KernelText {
 public:
  explicit KernelText(const std::string& text) : text_(text) { split(); }

  std::vector<FoundKernel> kernels;

  std::string rewrite() {
    for (std::size_t k = 0; k < tokens_.size(); ++k) {
      if (is(k, "{")) {
        scopes_.push_back(scope_of(k));
      } else if (is(k, "}")) {
        if (!scopes_.empty()) scopes_.pop_back();
      } else if (is(k, "__shared__")) {
        is(k - 1, "extern") ? rewrite_dynamic(k) : rewrite_shared(k);
      } else if (is(k, "__device__") && !in_function()) {
        rewrite_device(k);
      } else if (is(k, "__global__")) {
        find_kernel(k);
      }
    }
    std::string out;
    std::size_t done = 0;
    for (const Edit& edit : edits_) {
      out.append(text_, done, edit.begin - done);
      out += edit.text;
      done = edit.end;
    }
    return out.append(text_, done, std::string::npos);
  }

 private:
  enum class Scope { names, linkage, other };
  struct Token { std::size_t begin, end; };
  struct Edit { std::size_t begin, end; std::string text; };

  static bool is_word(char c) {
    return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_';
  }

  // Words, literals and single characters; comments are gone, lines that begin with # are skipped.
  void split() {
    const std::size_t n = text_.size();
    bool line_begins = true;
    for (std::size_t k = 0; k < n;) {
      const char c = text_[k];
      if (c == '#' && line_begins) {
        while (k < n && text_[k] != '\n') ++k;
        continue;
      }
      if (std::isspace(static_cast<unsigned char>(c)) != 0) {
        line_begins = line_begins || c == '\n';
        ++k;
        continue;
      }
      line_begins = false;
      const std::size_t begin = k++;
      const bool number = std::isdigit(static_cast<unsigned char>(c)) != 0;
      if (is_word(c)) {
        while (k < n && (is_word(text_[k]) || (number && text_[k] == '\''))) ++k;
      } else if (c == '"' || c == '\'') {
        while (k < n && text_[k] != c) k += text_[k] == '\\' ? 2 : 1;
        ++k;
      }
      tokens_.push_back({begin, k});
    }
  }

  std::string word(std::size_t k) const {
    return k < tokens_.size() ? text_.substr(tokens_[k].begin, tokens_[k].end - tokens_[k].begin)
                              : std::string();
  }
  bool is(std::size_t k, const char* expected) const { return word(k) == expected; }
  bool is_name(std::size_t k) const {
    const std::string text = word(k);
    return !text.empty() && is_word(text[0]) && std::isdigit(static_cast<unsigned char>(text[0])) == 0;
  }

  // The index behind the bracket that matches the one at `k`.
  std::size_t behind(std::size_t k) const {
    int depth = 0;
    for (; k < tokens_.size(); ++k) {
      const char c = text_[tokens_[k].begin];
      if (c == '(' || c == '[' || c == '{') ++depth;
      if ((c == ')' || c == ']' || c == '}') && --depth == 0) return k + 1;
    }
    return k;
  }

  Scope scope_of(std::size_t brace) const {
    for (std::size_t k = brace; k-- > 0;) {
      const std::string text = word(k);
      if (text == "namespace") return Scope::names;
      if (text == "\"C\"") return Scope::linkage;
      if (text == ";" || text == "{" || text == "}" || text == ")") break;
    }
    return Scope::other;
  }

  bool in_function() const {
    for (const Scope scope : scopes_) {
      if (scope == Scope::other) return true;
    }
    return false;
  }

  // Skips `word ( ... )` of attributes; the index of the first token that is none.
  std::size_t skip_attributes(std::size_t k) const {
    for (;;) {
      const std::string text = word(k);
      if (text != "alignas" && text != "__attribute__" && text != "__launch_bounds__") return k;
      k = behind(k + 1);
    }
  }

  void rewrite_dynamic(std::size_t k) {
    const std::size_t first = skip_attributes(k + 1);
    std::size_t bracket = first;
    while (bracket < tokens_.size() && !is(bracket, "[")) ++bracket;
    if (bracket + 2 >= tokens_.size()) return;
    const std::string name = word(bracket - 1);
    const std::string type =
        text_.substr(tokens_[first].begin, tokens_[bracket - 1].begin - tokens_[first].begin);
    edits_.push_back({tokens_[k - 1].begin, tokens_[bracket + 2].end,
                      type + "* const " + name + " = reinterpret_cast<" + type +
                          "*>(anvil_host::grid.dynamic_shared);"});
  }

  void rewrite_shared(std::size_t k) {
    std::vector<std::string> names;
    std::size_t end = k + 1;
    for (int angles = 0; end < tokens_.size() && !is(end, ";"); ++end) {
      if (is(end, "<")) ++angles;
      if (is(end, ">")) --angles;
      if (is(end, "(") || is(end, "[") || is(end, "{")) {
        end = behind(end) - 1;
        continue;
      }
      const bool named = is_name(end) && (is(end + 1, "[") || is(end + 1, ";") || is(end + 1, ","));
      if (named && angles == 0) names.push_back(word(end));
    }
    if (!in_function() || end >= tokens_.size()) return;
    std::string added;
    for (const std::string& name : names) {
      added += " static unsigned long anvil_seen_" + name + "; anvil_host::refresh_shared((void*)&" +
               name + ", sizeof(" + name + "), anvil_seen_" + name + "); static_assert(sizeof(" +
               name + ") <= 49152, \"uses too much shared data\");";
    }
    edits_.push_back({tokens_[end].end, tokens_[end].end, added});
  }

  void rewrite_device(std::size_t k) {
    std::size_t end = k + 1;
    for (;; ++end) {
      end = skip_attributes(end);
      if (end >= tokens_.size() || is(end, "(")) return;
      if (is(end, ";") || is(end, "=") || is(end, "{") || is(end, "[")) break;
    }
    edits_.push_back({tokens_[k].begin, tokens_[k].end, "__attribute__((visibility(\"default\")))"});
  }

  void find_kernel(std::size_t k) {
    FoundKernel found{"", "1024"};
    std::size_t paren = k + 1;
    while (paren < tokens_.size() && !is(paren, "(")) {
      if (is(paren, "__launch_bounds__")) {
        const std::size_t last = behind(paren + 1) - 1;
        const std::size_t first = tokens_[paren + 1].end;
        found.bounds = text_.substr(first, tokens_[last].begin - first);
      }
      const std::size_t next = skip_attributes(paren);
      paren = next == paren ? paren + 1 : next;
    }
    found.name = word(paren - 1);
    if (!is(behind(paren), "{") || !has_c_linkage(k)) return;
    kernels.push_back(found);
  }

  // Said of the kernel itself or of a block around it.
  bool has_c_linkage(std::size_t k) const {
    while (k-- > 0 && !is(k, ";") && !is(k, "{") && !is(k, "}")) {
      if (is(k, "\"C\"")) return true;
    }
    for (const Scope scope : scopes_) {
      if (scope == Scope::linkage) return true;
    }
    return false;
  }

  const std::string text_;
  std::vector<Token> tokens_;
  std::vector<Scope> scopes_;
  std::vector<Edit> edits_;
};

}  // namespace anvil_emulated
