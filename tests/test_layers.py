"""Trees whose layers are held together: there and back, and known again by their parts."""

import jax
import jax.numpy as jnp
import numpy as np

from tl_jax import layers, leaves, tree


def named_tree():
  """Three layers with a kernel that is edited and a bias; a head beside them."""
  layers = {}
  for index in range(3):
    base = jnp.full((2, 2), float(index))
    edited = leaves.LowRank(base, jnp.ones((2, 1)), jnp.zeros((1, 2)), 2.0)
    layers[str(index)] = dict(kernel=edited, bias=jnp.full(2, index), hole=None)
  return dict(layers=layers, head=jnp.ones(2))


def plan_for(named, first=0):
  """All leaves of the layers from `first` on, together."""
  plan = {}
  for name in tree.flatten(named):
    place = layers.place_of(name)
    if place is not None and place.index == first:
      plan[name] = place.names(3 - first)
  return plan


def test_a_held_tree_has_one_leaf_for_all_layers_and_goes_back_bit_for_bit():
  named = named_tree()
  held = layers.hold(named, plan_for(named))
  stacked = held['layers']['0']['kernel'].base
  assert stacked.value.shape == (3, 2, 2) and stacked.shape == (2, 2)
  assert not jax.tree.leaves(held['layers']['1'])
  # The name is that of the first layer's leaf.
  assert 'layers/0/kernel/base' in tree.flatten(held)
  again = layers.unstacked(held)
  assert jax.tree.structure(again) == jax.tree.structure(named)
  jax.tree.map(np.testing.assert_array_equal, again, named)


def test_layers_before_the_first_that_is_held_stay_by_name():
  named = named_tree()
  held = layers.hold(named, plan_for(named, first=1))
  assert held['layers']['0']['bias'].shape == (2,)
  assert held['layers']['1']['bias'].count == 2
  jax.tree.map(np.testing.assert_array_equal, layers.unstacked(held), named)


def test_a_tree_takes_the_form_of_another():
  named = named_tree()
  held = layers.hold(named, plan_for(named))
  again = layers.held_as(named, held)
  assert jax.tree.structure(again) == jax.tree.structure(held)
  # A tree without layers together has no other form.
  assert layers.held_as(named, named) is named
  assert layers.unstacked(named) is named


def test_parts_that_are_handed_on_are_put_back_without_any_work():
  held = layers.hold(named_tree(), plan_for(named_tree()))

  def through_names(held):
    parts = layers.Parts()
    named = parts.take(held)
    for index in range(3):
      named['layers'][str(index)]['bias'] = named['layers'][str(index)]['bias'] + 1
    return parts.put_back(named)

  made = through_names(held)
  base = held['layers']['0']['kernel'].base
  assert made['layers']['0']['kernel'].base.value is base.value
  # What is new in one layer stays a leaf of each.
  assert made['layers']['2']['bias'].tolist() == [3, 3]


def test_layers_in_another_order_are_stacked_anew():
  held = layers.hold(named_tree(), plan_for(named_tree()))
  parts = layers.Parts()
  own = parts.take(held)['layers']
  biases = [own[str(index)]['bias'] for index in range(3)]
  whole = held['layers']['0']['bias'].value
  assert parts.stack(biases) is whole
  assert parts.stack(biases[1:])[:, 0].tolist() == [1, 2]
  assert parts.stack(biases[::-1])[:, 0].tolist() == [2, 1, 0]
  own['0'], own['2'] = own['2'], own['0']
  swapped = parts.put_back(dict(layers=own))
  assert swapped['layers']['0']['bias'].tolist() == [2, 2]


def test_the_gradient_of_a_part_is_one_of_the_stack():
  held = layers.hold(named_tree(), plan_for(named_tree()))
  value = held['layers']['0']['kernel'].base.value

  def loss(value):
    stacked = layers.Stacked(value, 3)
    named = layers.unstacked({'layers': {'0': {'w': stacked}, '1': {'w': None}}})
    return (named['layers']['1']['w'] * jnp.arange(4.0).reshape(2, 2)).sum()

  gradient = jax.grad(loss)(value)
  assert gradient[1].tolist() == [[0, 1], [2, 3]]
  assert not gradient[0].any() and not gradient[2].any()
