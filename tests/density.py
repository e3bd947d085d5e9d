"""How dense a package's code is: syntax per statement, complexity of functions,
comments, wide lines.

>>> complexity(ast.parse('def f(x):\\n  return x and 1 if x else 2').body[0])
3
"""

import ast
import dataclasses
import pathlib
import statistics

WIDE = 100  # columns
COMPLEX = 10  # branches of a function
# What says how a name is used, not what is done.
UNCOUNTED = (ast.expr_context, ast.operator, ast.cmpop, ast.boolop, ast.unaryop)
BRANCHES = (
  ast.If,
  ast.IfExp,
  ast.For,
  ast.AsyncFor,
  ast.While,
  ast.ExceptHandler,
  ast.Assert,
  ast.match_case,
)


@dataclasses.dataclass(frozen=True)
class Density:
  """The figures of a package.

  nodes: syntax nodes of a statement, mean. complex: functions of more than `COMPLEX`
  branches per 1,000 lines of code. comments: the part of the lines that only comment.
  wide: lines beyond `WIDE` columns. longest: lines of the longest file. worst: the
  most complex functions, (branches, place).
  """

  nodes: float
  complex: float
  comments: float
  wide: int
  longest: int
  worst: tuple[tuple[int, str], ...]


def measure(package: pathlib.Path) -> Density:
  """The density of all Python files of a package. Docstrings are neither code nor
  comment.
  """
  weights, functions = [], []
  code = comments = wide = longest = 0
  for path in sorted(package.rglob('*.py')):
    text = path.read_text(encoding='utf-8')
    tree = ast.parse(text)
    weights += [weight(node) for node in ast.walk(tree) if _is_counted(node)]
    functions += [
      (complexity(node), f'{path.relative_to(package)}:{node.lineno} {node.name}')
      for node in ast.walk(tree)
      if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    lines = text.splitlines()
    longest = max(longest, len(lines))
    documented = _documented(tree)
    for number, line in enumerate(lines, 1):
      wide += len(line) > WIDE
      if not line.strip() or number in documented:
        continue
      if line.strip().startswith('#'):
        comments += 1
      else:
        code += 1
  complex_ones = sorted((pair for pair in functions if pair[0] > COMPLEX), reverse=True)
  return Density(
    nodes=statistics.mean(weights),
    complex=1000 * len(complex_ones) / code,
    comments=comments / (code + comments),
    wide=wide,
    longest=longest,
    worst=tuple(complex_ones),
  )


def _is_counted(node) -> bool:
  """Is this a statement, and not a docstring or another constant on its own?"""
  if not isinstance(node, ast.stmt):
    return False
  return not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))


def _documented(tree) -> set[int]:
  """The numbers of the lines of all docstrings."""
  found = set()
  holders = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Module)
  for node in ast.walk(tree):
    if isinstance(node, holders) and ast.get_docstring(node, clean=False) is not None:
      first = node.body[0]
      found.update(range(first.lineno, first.end_lineno + 1))
  return found


def weight(statement: ast.stmt) -> int:
  """Nodes of a statement without the statements nested in it."""
  total, stack = 0, [statement]
  while stack:
    node = stack.pop()
    total += not isinstance(node, UNCOUNTED)
    stack += [
      child
      for child in ast.iter_child_nodes(node)
      if not isinstance(child, ast.stmt | ast.excepthandler | ast.match_case)
    ]
  return total


def complexity(function) -> int:
  """McCabe's number with boolean operators, ternaries and comprehensions; nested
  functions aside.
  """
  count, stack = 1, list(ast.iter_child_nodes(function))
  while stack:
    node = stack.pop()
    if isinstance(
      node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda
    ):
      continue
    count += isinstance(node, BRANCHES)
    if isinstance(node, ast.BoolOp):
      count += len(node.values) - 1
    if isinstance(node, ast.comprehension):
      count += 1 + len(node.ifs)
    stack += ast.iter_child_nodes(node)
  return count
