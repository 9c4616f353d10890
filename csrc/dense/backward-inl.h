// C = A B with a small A and wide B and C, which is what both gradients of the layer are: dx = dy W, dW = dy^T x.
// Compiled for each instruction set, see core/simd.h.
#include "core/gemm-inl.h"
#include "dense/kernels.h"

namespace maam {
namespace MAAM_ISA {
namespace dense {

// Rows of B, and columns, that are copied into working memory before A passes over them. Rows of B are mostly a power
// of two apart, so that in place they would fall into the same few sets of the caches.
struct Piece {
  int64_t column = 0, columns = 0, k = 0, depth = 0;
};

// The pieces of columns [begin, end) in their order: all depths of a panel, then the next panel.
class Pieces {
 public:
  Pieces(const DenseProduct& p, int64_t begin, int64_t end) : p_(p), end_(end) { Put(begin, 0); }
  const Piece& operator*() const { return piece_; }
  bool Done() const { return piece_.columns <= 0; }
  void Next() {
    const int64_t k = piece_.k + piece_.depth;
    k < p_.depth ? Put(piece_.column, k) : Put(piece_.column + piece_.columns, 0);
  }

 private:
  void Put(int64_t column, int64_t k) {
    piece_.column = column;
    piece_.columns = end_ - column < kPanel ? end_ - column : kPanel;
    piece_.k = k;
    piece_.depth = p_.depth - k < kPanelDepth ? p_.depth - k : kPanelDepth;
  }

  const DenseProduct& p_;
  const int64_t end_;
  Piece piece_;
};

// Copies a piece into working memory, row by row, while the product of the one before it is computed: in one go, memory
// and multiply-adds would wait for one another.
class CopyAhead {
 public:
  CopyAhead(const DenseProduct& p, const Piece& piece, float* panel, int64_t idles)
      : p_(p), piece_(piece), panel_(panel), idles_(idles) {}

  MAAM_MEMBER void Idle() {
    for (due_ += piece_.depth; due_ >= idles_ && row_ < piece_.depth; due_ -= idles_) CopyRow();
  }
  void Finish() {
    while (row_ < piece_.depth) CopyRow();
  }

 private:
  static constexpr int64_t kAhead = 8;  // rows

  void CopyRow() {
    WithSingleType(p_.b_dtype, [this]<class T>(T*) { CopyRowOf<T>(); });
    ++row_;
  }

  template <class T>
  void CopyRowOf() {
    const T* from = static_cast<const T*>(p_.b) + (piece_.k + row_) * p_.columns + piece_.column;
    float* to = panel_ + row_ * kPanel;
    if (row_ + kAhead < piece_.depth) {
      Prefetch(from + kAhead * p_.columns, piece_.columns * static_cast<int64_t>(sizeof(T)));
    }
    int64_t x = 0;
    for (; x + F32::kLanes <= piece_.columns; x += F32::kLanes) Store(to + x, Load(from + x));
    if (x < piece_.columns) Store(to + x, LoadFirst(from + x, piece_.columns - x));
  }

  const DenseProduct& p_;
  const Piece piece_;
  float* const panel_;
  const int64_t idles_;
  int64_t due_ = 0;
  int64_t row_ = 0;
};

enum class Write { kStore, kAdd, kStream };

// Takes rows of a product to C: also added to what earlier depths left there, or past the cache. kWhole: all columns of
// a panel exist.
template <Write kWrite, bool kWhole, class T>
class ColumnWriter {
 public:
  ColumnWriter(const DenseProduct& p, const Piece& piece, CopyAhead& ahead) : p_(p), piece_(piece), ahead_(ahead) {}

  MAAM_MEMBER void Idle() { ahead_.Idle(); }

  template <int kVectors>
  MAAM_MEMBER void Take(int64_t first, int r, int64_t x, F32 (&vectors)[kVectors]) {
    T* to = static_cast<T*>(p_.c) + (first + r) * p_.columns + piece_.column + x;
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v, to += F32::kLanes) {
      const int64_t left = kWhole ? F32::kLanes : piece_.columns - x - v * F32::kLanes;
      if (left >= F32::kLanes) {
        Put(to, vectors[v]);
      } else if (left > 0) {
        StoreFirst(to, kWrite == Write::kAdd ? Add(LoadFirst(to, left), vectors[v]) : vectors[v], left);
      }
    }
  }
  void Done(int64_t, int64_t) {}

 private:
  MAAM_MEMBER static void Put(T* to, F32 x) {
    if constexpr (kWrite == Write::kStream) {
      Stream(to, x);
    } else {
      Store(to, kWrite == Write::kAdd ? Add(Load(to), x) : x);
    }
  }

  const DenseProduct& p_;
  const Piece& piece_;
  CopyAhead& ahead_;
};

// Rows, and vectors of columns, in registers.
constexpr int kRowsAtOnce = kRegisters == 32 ? 8 : Block<F32>::kRows;
constexpr int kVectorsAtOnce = kRegisters == 32 ? 3 : 2;

template <Write kWrite, bool kWhole, class T>
static void MultiplyPiece(const DenseProduct& p, const Piece& piece, const float* panel, CopyAhead& ahead) {
  ColumnWriter<kWrite, kWhole, T> writer(p, piece, ahead);
  for (int64_t first = 0; first < p.rows; first += kRowsAtOnce) {
    const int64_t rows = p.rows - first < kRowsAtOnce ? p.rows - first : kRowsAtOnce;
    const float* a[kRowsAtOnce];
    for (int r = 0; r < kRowsAtOnce; ++r) a[r] = p.a + (first + (r < rows ? r : rows - 1)) * p.a_stride + piece.k;
    for (int64_t x = 0; x < piece.columns; x += kVectorsAtOnce * F32::kLanes) {
      EmitBlock<F32, kRowsAtOnce, kVectorsAtOnce>(a, piece.depth, panel, kPanel, first, rows, x, writer);
    }
  }
}

// How often MultiplyPiece calls Idle().
static int64_t Idles(const DenseProduct& p, const Piece& piece) {
  const int64_t blocks = (p.rows + kRowsAtOnce - 1) / kRowsAtOnce;
  constexpr int64_t kColumns = kVectorsAtOnce * F32::kLanes;
  return blocks * ((piece.columns + kColumns - 1) / kColumns) * ((piece.depth + kIdleSteps - 1) / kIdleSteps);
}

template <class T>
static void MultiplyPieceTo(const DenseProduct& p, const Piece& piece, const float* panel, CopyAhead& ahead) {
  const bool whole = piece.columns % kPanelColumns == 0;
  if constexpr (CanStream<T>::value) {
    if (piece.k > 0) {
      return (whole ? MultiplyPiece<Write::kAdd, true, T> : MultiplyPiece<Write::kAdd, false, T>)(p, piece, panel,
                                                                                                  ahead);
    }
    if (p.stream && whole) return MultiplyPiece<Write::kStream, true, T>(p, piece, panel, ahead);
  }
  (whole ? MultiplyPiece<Write::kStore, true, T> : MultiplyPiece<Write::kStore, false, T>)(p, piece, panel, ahead);
}

static void Multiply(const DenseProduct& p, int64_t begin, int64_t end, float* panels) {
  Pieces pieces(p, begin, end);
  CopyAhead(p, *pieces, panels, 1).Finish();
  for (int64_t turn = 0; !pieces.Done(); ++turn) {
    const Piece piece = *pieces;
    pieces.Next();
    const float* panel = panels + turn % 2 * kPanelFloats;
    const Piece next = pieces.Done() ? Piece() : *pieces;
    CopyAhead ahead(p, next, panels + (turn + 1) % 2 * kPanelFloats, Idles(p, piece));
    WithSingleType(p.c_dtype, [&]<class T>(T*) { MultiplyPieceTo<T>(p, piece, panel, ahead); });
    ahead.Finish();
  }
  if (p.stream) FenceStreams();
}

}  // namespace dense
}  // namespace MAAM_ISA

void MAAM_VARIANT(dense_product)(const DenseProduct& p, int64_t begin, int64_t end, float* panels) {
  MAAM_ISA::dense::Multiply(p, begin, end, panels);
}

}  // namespace maam
