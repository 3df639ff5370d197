"""Star and acyclic colourings of the graph of a symmetric matrix.

A proper colouring is a star colouring when every path of four vertices has three colours: each
pair of colours then induces stars, and every entry can be read directly. It is acyclic when every
pair of colours induces trees: entries are then found from the leaves inwards.

Both algorithms are greedy: Gebremedhin, Tarafdar, Manne, Pothen, "New acyclic and star coloring
algorithms with application to computing Hessians", SIAM J. Sci. Comput. 29 (2007), 4.1 and 3.1,
here with sets of colours as Python integers instead of arrays that remember their last visitor.
"""

from collections.abc import Sequence

import numpy as np
import scipy.sparse as sp
from scipy.sparse import csgraph

from anvil_jax.sparsity.coloring.incidence import Graph


def star_coloring(
    graph: Graph, order: Sequence[int], limit: int | None = None
) -> np.ndarray | None:
    """Give every vertex the first colour that leaves a star colouring.

    Three sets of colours are kept per vertex: ``once`` and ``twice``, the colours of at least one
    or two of its neighbours, and ``hubs``, the colours of those neighbours that have a second
    neighbour of this vertex's colour.

    Args:
        graph: the graph.
        order: all vertices.
        limit: stop when more colours than this are needed.

    Returns:
        (n,) colours; None if `limit` was not enough.
    """
    neighbours = graph.neighbours
    too_large = 1 << (graph.n if limit is None else limit)
    colors = [-1] * graph.n
    once, twice, hubs = [0] * graph.n, [0] * graph.n, [0] * graph.n
    for vertex in order:
        taken, repeated = once[vertex], twice[vertex]
        for other in neighbours[vertex]:
            shared = colors[other]
            if shared >= 0:
                taken |= once[other] if repeated >> shared & 1 else hubs[other]
        bit = ~taken & (taken + 1)
        if bit >= too_large:
            return None
        colors[vertex] = color = bit.bit_length() - 1
        for other in neighbours[vertex]:
            shared = colors[other]
            if shared >= 0 and repeated >> shared & 1:
                hubs[other] |= bit
            if not once[other] & bit:
                once[other] |= bit
            elif not twice[other] & bit:
                twice[other] |= bit
                if shared >= 0:
                    for spoke in neighbours[other]:
                        if colors[spoke] == color:
                            hubs[spoke] |= 1 << shared
            elif shared >= 0:
                hubs[vertex] |= 1 << shared
    return np.array(colors, np.int64)


def acyclic_coloring(
    graph: Graph, order: Sequence[int], limit: int | None = None, max_depth: int | None = None
) -> np.ndarray | None:
    """Give every vertex the first colour that closes no cycle of two colours.

    A colour c closes one when two neighbours of the same colour d are in the same tree of c and d.

    Args:
        graph: the graph.
        order: all vertices.
        limit: stop when more colours than this are needed.
        max_depth: also avoid colours that make trees so large that an entry could be further than
            this from a direct read; a tree with k inner vertices has depth ``k // 2`` at most.

    Returns:
        (n,) colours; None if `limit` was not enough.
    """
    neighbours = graph.neighbours
    too_large = 1 << (graph.n if limit is None else limit)
    most_inner = graph.n if max_depth is None else 2 * max_depth + 1
    colors = [-1] * graph.n
    once, twice = [0] * graph.n, [0] * graph.n
    trees = _Trees(graph.n)

    def closing(vertex: int, taken: int) -> int:
        """Colours that would join one tree to `vertex` twice, or make too large a tree."""
        repeated = twice[vertex]
        seen: set[int] = set()
        inner: dict[tuple[int, int], int] = {}
        for other in neighbours[vertex]:
            shared = colors[other]
            if shared < 0 or (max_depth is None and not repeated >> shared & 1):
                continue
            candidates = once[other] & ~taken
            while candidates:
                bit = candidates & -candidates
                candidates ^= bit
                tree = trees.of(other, bit.bit_length() - 1)
                key = (bit, shared)
                inner[key] = inner.get(key, repeated >> shared & 1) + trees.inner[tree]
                inner[key] += not twice[other] & bit
                if tree in seen or inner[key] > most_inner:
                    taken |= bit
                seen.add(tree)
        return taken

    for vertex in order:
        taken, repeated = once[vertex], twice[vertex]
        if repeated or max_depth is not None:
            taken = closing(vertex, taken)
        bit = ~taken & (taken + 1)
        if bit >= too_large:
            return None
        colors[vertex] = color = bit.bit_length() - 1
        for other in neighbours[vertex]:
            shared = colors[other]
            if shared >= 0:
                trees.add_edge(vertex, other, color, shared)
            if not once[other] & bit:
                once[other] |= bit
            elif not twice[other] & bit:
                twice[other] |= bit
                if shared >= 0:
                    trees.inner[trees.of(other, color)] += 1
        while repeated:
            low = repeated & -repeated
            repeated ^= low
            trees.inner[trees.of(vertex, low.bit_length() - 1)] += 1
    return np.array(colors, np.int64)


class _Trees:
    """The trees of all pairs of colours: a union-find structure.

    Attributes:
        inner: number of vertices with several neighbours, at the root node of every tree.
    """

    def __init__(self, n: int) -> None:
        self.inner: list[int] = []
        self._nodes: list[dict[int, int]] = [{} for _ in range(n)]
        self._parents: list[int] = []

    def of(self, vertex: int, color: int) -> int:
        """Root of the tree of `vertex` and its neighbours of another colour."""
        return self._root(self._nodes[vertex][color])

    def add_edge(self, new: int, old: int, new_color: int, old_color: int) -> None:
        """Join the trees of two neighbours; `new` may have no tree of these colours yet."""
        nodes = self._nodes[old]
        node = nodes.get(new_color)
        if node is None:
            node = nodes[new_color] = len(self._parents)
            self._parents.append(node)
            self.inner.append(0)
        mine = self._nodes[new]
        if old_color not in mine:
            mine[old_color] = node
            return
        a, b = self._root(node), self._root(mine[old_color])
        if a != b:
            self._parents[a] = b
            self.inner[b] += self.inner[a]

    def _root(self, node: int) -> int:
        parents = self._parents
        while parents[node] != node:
            parents[node] = parents[parents[node]]
            node = parents[node]
        return node


def forest_depths(graph: Graph) -> np.ndarray | None:
    """Distance (n,) of every vertex from the vertex of largest degree in its tree.

    Returns None unless the graph is a forest. The parity of the depth is then an acyclic colouring,
    and the depth modulo three a star colouring; with as few colours as possible.
    """
    count, member = csgraph.connected_components(graph.matrix(), directed=False)
    if graph.n_edges != graph.n - count:
        return None
    by_degree = np.argsort(-graph.degrees, kind="stable")
    roots = by_degree[np.unique(member[by_degree], return_index=True)[1]]
    links = np.ones(len(roots), np.int8), (np.full(len(roots), graph.n), roots)
    size = (graph.n + 1, graph.n + 1)
    rooted = graph.matrix()
    rooted.resize(size)
    rooted = sp.csr_array(rooted + sp.coo_array(links, shape=size))
    order, above = csgraph.breadth_first_order(rooted, graph.n, directed=False)
    depths = [-1] * (graph.n + 1)
    parents = above.tolist()
    for vertex in order.tolist()[1:]:
        depths[vertex] = depths[parents[vertex]] + 1
    return np.array(depths[:-1], np.int64)


def drop_neutral(graph: Graph, colors: np.ndarray) -> np.ndarray:
    """Remove the colours whose pass no entry has to be read from, and colour what is empty -1.

    An off-diagonal entry (i, j) is read in the pass of j's colour if i has no other neighbour of
    that colour, or when the others are known. A colour is needed for the diagonal, and for the
    vertices inside a tree of two colours; of the colours of an edge that is a tree, one is needed
    (few are chosen, greedily).

    Args:
        graph: the graph.
        colors: (n,) a star or acyclic colouring.

    Returns:
        (n,) the colouring with the needed colours renumbered, -1 for the others.
    """
    count = int(colors.max(initial=-1)) + 1
    needed = np.zeros(count, bool)
    needed[colors[graph.diagonal]] = True
    upper = graph.sources < graph.indices
    i, j = graph.sources[upper], graph.indices[upper]
    keys = np.concatenate([i * count + colors[j], j * count + colors[i]])
    _, inverse, sharing = np.unique(keys, return_inverse=True, return_counts=True)
    branches_i, branches_j = (sharing[inverse] > 1).reshape(2, -1)
    needed[colors[i[branches_i]]] = True
    needed[colors[j[branches_j]]] = True
    single = ~branches_i & ~branches_j
    pairs = np.stack([colors[i[single]], colors[j[single]]], axis=1)
    pairs = np.unique(np.sort(pairs, axis=1), axis=0)
    while len(pairs := pairs[~needed[pairs].any(axis=1)]):
        needed[np.bincount(pairs.ravel(), minlength=count).argmax()] = True
    renumbered = np.where(needed, np.cumsum(needed) - 1, -1)
    empty = (graph.degrees == 0) & ~graph.diagonal
    return np.where(empty, -1, renumbered[colors]) if count else colors
